"""How a process sets torch up: its threads, and the garbage collector while it loads. Imports no torch by itself."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from inference_server.engine import threads


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector off while torch and transformers are imported, and off what they leave for good.

    It would go through a million objects that all stay, again and again: 0.8 of 5.5 CPU seconds of each start, and
    later a pause of every stream for each full collection.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def prepare_torch() -> None:
    """Set the threads of this process, before and after torch is imported."""
    count = threads.cpu_count()
    os.environ.update(threads.openmp_environment(count))
    import torch

    torch.set_num_threads(count)
