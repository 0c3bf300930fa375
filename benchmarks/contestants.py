"""Whatever can be put under the closed loop: a server behind HTTP, or an engine in a process of its own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import uvloop

from benchmarks import models
from benchmarks.load import ANSWER_SECONDS, Load, closed_loop, open_loop, request
from benchmarks.processes import Worker
from benchmarks.records import NEW_TOKENS, PROMPT_TOKENS
from benchmarks.servers import Running
from benchmarks.transcript import PeerError

REQUESTS = {1: 8, 8: 32, 32: 64}
"""How many requests a measurement has at each concurrency: a few seconds of ours."""
WINDOW_SECONDS = 90.0
"""A measurement is over by then whatever happens; on a quiet machine it takes seconds."""
ONE_AT_A_TIME_SECONDS = 20.0
"""The same for servers that answer one request at a time: their throughput does not depend on how many wait."""

_seeds = itertools.count(1)
"""No prompt ever comes twice in a run, as it would be found in a prefix cache."""


class Contestant(Protocol):
    """What is measured."""

    @property
    def name(self) -> str:
        """Its name in the records."""
        ...

    @property
    def session(self) -> int:
        """The session of all its processes."""
        ...

    def warm_up(self) -> None:
        """Bring it to its usual speed."""
        ...

    def closed(self, concurrency: int) -> Load:
        """Keep `concurrency` requests in flight and return what came of it."""
        ...


class ServerContestant:
    """A running server."""

    def __init__(self, running: Running) -> None:
        self.name = running.server.name
        self.session = running.session
        self._server = running.server

    def warm_up(self) -> None:
        """Send one request, then eight at once: some compile or allocate anew for more than one."""
        for count in (1,) if self._server.one_at_a_time else (1, 8):
            uvloop.run(closed_loop(self._server.port, self._requests(count), count, ANSWER_SECONDS))

    def closed(self, concurrency: int) -> Load:
        """Run the closed loop."""
        window = ONE_AT_A_TIME_SECONDS if self._server.one_at_a_time else WINDOW_SECONDS
        requests = self._requests(REQUESTS[concurrency])
        return _whole(uvloop.run(closed_loop(self._server.port, requests, concurrency, window)))

    def open(self, arrivals: list[float]) -> Load:
        """Send one request at each of `arrivals`."""
        return _whole(uvloop.run(open_loop(self._server.port, self._requests(len(arrivals)), arrivals)))

    def _requests(self, count: int) -> list[bytes]:
        server, prompts = self._server, models.prompts(PROMPT_TOKENS, next(_seeds))
        bodies = [server.body(prompt, NEW_TOKENS) for prompt in itertools.islice(prompts, count)]
        return [request(server.port, server.path, body) for body in bodies]


@dataclass
class EngineContestant:
    """An engine in a worker."""

    worker: Worker

    @property
    def name(self) -> str:
        """The worker's."""
        return self.worker.name

    @property
    def session(self) -> int:
        """The worker's."""
        return self.worker.session

    def warm_up(self) -> None:
        """Run one request, then eight at once."""
        for count in (1, 8):
            self._ask(count, count)

    def closed(self, concurrency: int) -> Load:
        """Run the closed loop."""
        return _whole(self._ask(concurrency, REQUESTS[concurrency]))

    def _ask(self, concurrency: int, requests: int) -> Load:
        question = {"concurrency": concurrency, "requests": requests, "seed": next(_seeds)}
        answer = self.worker.ask({**question, "prompt_tokens": PROMPT_TOKENS, "new_tokens": NEW_TOKENS})
        return Load(answer["tokens"], answer["seconds"], answer["ttft_seconds"])


def _whole(load: Load) -> Load:
    """Return `load`, each of whose requests must have had all of its tokens, or it is no comparison."""
    if load.tokens != NEW_TOKENS * len(load.ttft_seconds):
        raise PeerError(f"{load.tokens} tokens came for {len(load.ttft_seconds)} requests of {NEW_TOKENS}")
    return load
