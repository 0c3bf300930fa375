"""The server as it is, but for memory that does not suffice for long sequences.

    python -m tests.soak.scarce_memory serve | engine --socket-fd N

Its engine process runs the engine as it is, on a model that raises what torch raises when memory runs out, for every
batch that holds a sequence of more than LIMIT_TOKENS. Settings are the server's own environment variables.
"""

from __future__ import annotations

import argparse
import dataclasses
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from inference_server.engine.interface import EngineConfig, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from inference_server.models.loader import LoadedModel
    from inference_server.models.model import Chunk, Model

LIMIT_TOKENS = 200


class ScarceModel:
    """Passes everything on to `model`, but for batches that need too much."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.slots, self.max_model_len, self.pages = model.slots, model.max_model_len, model.pages
        self.vocabulary_size, self.eos_token_ids = model.vocabulary_size, model.eos_token_ids

    def forward(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute `chunks`; see `models.model.Model.forward`."""
        import torch

        if any(chunk.start + len(chunk.token_ids) > LIMIT_TOKENS for chunk in chunks):
            raise torch.OutOfMemoryError("injected: tried to allocate more than there is")
        return self._model.forward(chunks)

    def store_page(self, slot: int, start: int, page: int) -> None:
        """See `models.model.Model`."""
        self._model.store_page(slot, start, page)

    def load_page(self, page: int, slot: int, start: int) -> None:
        """See `models.model.Model`."""
        self._model.load_page(page, slot, start)


def serve() -> int:
    """Be the web process, with the engine process of this module."""
    from inference_server import logging
    from inference_server import serve as server
    from inference_server.engine import protocol
    from inference_server.management import bind
    from inference_server.settings import read_settings

    settings = read_settings()
    logging.configure(settings.log_format, settings.log_level)
    public, management = bind(settings.host, settings.port), bind(settings.host, settings.management_port)
    ours, theirs = socket.socketpair()
    ours.sendall(protocol.frame(protocol.Load(settings.engine_config())))
    command = [sys.executable, "-m", "tests.soak.scarce_memory", "engine", "--socket-fd", str(theirs.fileno())]
    with theirs:
        child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    return server.run(settings, public, management, (child, ours))


def engine(descriptor: int) -> int:
    """Be the engine process."""
    from inference_server.engine import process
    from inference_server.models import loader

    load = loader.load

    def load_scarce(config: EngineConfig, report: Callable[[Progress], None]) -> LoadedModel:
        loaded = load(config, report)
        return dataclasses.replace(loaded, model=ScarceModel(loaded.model))

    loader.load = load_scarce
    return process.run(socket.socket(fileno=descriptor))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("serve", "engine"))
    parser.add_argument("--socket-fd", type=int, default=-1)
    given = parser.parse_args()
    sys.exit(serve() if given.role == "serve" else engine(given.socket_fd))
