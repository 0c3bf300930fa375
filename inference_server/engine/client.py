"""The web process's end of the engine: starts the engine process, sends it sequences, hands out what it generates.

One task reads the socket. It appends each sequence's outputs to the `Generation` of its request and wakes the consumer
once for everything queued since it last looked, so a slow client gets few large chunks and a fast one many small.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, Protocol

import structlog

from inference_server.engine import protocol
from inference_server.engine.interface import (
    EngineConfig,
    GenerationRequest,
    ModelInfo,
    Progress,
    SequenceOutput,
    Started,
)
from inference_server.engine.watchdog import Watchdog
from inference_server.metrics import Metrics
from inference_server.rate import RecentMean, SlidingRate
from inference_server.state import Load
from inference_server.together import run_together

PING_SECONDS = 0.5
EXIT_SECONDS = 5.0
"""How long an engine process whose socket is closed may take to be gone before it is killed."""

logger = structlog.get_logger(__name__)


class EngineFailed(Exception):  # noqa: N818 - the name of the condition's reason
    """The engine process has ended or hangs. The text is for operators; `reason` is one of conditions.md."""

    def __init__(self, message: str, *, reason: str = "EngineFailed", exit_code: int = 70) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code


class GenerationAborted(Exception):  # noqa: N818 - it is no error of the code that sees it
    """The sequence will get no more tokens; `code` and text are for the client.

    `worker_lost`: the engine has failed. `stream_interrupted`: this server stops and the time to drain is over.
    `deadline_exceeded`: the time that the client gave is over.
    """

    def __init__(self, code: Literal["worker_lost", "stream_interrupted", "deadline_exceeded"], message: str) -> None:
        super().__init__(message)
        self.code = code


class Child(Protocol):
    """The engine process, as far as its parent needs it."""

    def kill(self) -> None:
        """End it now."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code; raises subprocess.TimeoutExpired."""
        ...


def start_process(config: EngineConfig) -> tuple[Child, socket.socket]:
    """Start a fresh engine process (never a fork of this one) and return it with this end of its socket.

    It is told at once what to load, and is at it while this process still imports its web framework.
    """
    ours, theirs = socket.socketpair()
    descriptor = theirs.fileno()
    command = [sys.executable, "-m", "inference_server.engine", "--socket-fd", str(descriptor)]
    # Libraries ask for the user's name, which a random UID does not have in /etc/passwd.
    environment = {"USER": "llmservice", **os.environ}
    ours.sendall(protocol.frame(protocol.Load(config)))
    with theirs:
        return subprocess.Popen(command, pass_fds=[descriptor], env=environment, stdin=subprocess.DEVNULL), ours


class Generation:
    """The sequences of one request in flight: one queue for what all of them generate, and one consumer."""

    def __init__(self, requests: Sequence[GenerationRequest], arrived: float) -> None:
        self.requests = {request.request_id: request for request in requests}
        self.arrived = arrived
        self.queue_seconds: float | None = None
        """How long the first of the sequences waited for its slot; None while all wait."""
        self.cached_tokens: dict[str, int] = {}
        """How much of the prompt of each started sequence came from the prefix cache."""
        self._unfinished = len(requests)
        self._queued: list[SequenceOutput] = []
        self._consumer: asyncio.Future[None] | None = None
        self._aborted: GenerationAborted | None = None
        self._last_output: float | None = None
        self._last_sign = arrived
        self._idle_timer: asyncio.TimerHandle | None = None

    def started(self, sequence: Started, began: float) -> None:
        """Note that one of the sequences has its slot."""
        self.cached_tokens[sequence.request_id] = sequence.cached_tokens
        if self.queue_seconds is None:
            self.queue_seconds = max(began - self.arrived, 0.0)

    def put(self, output: SequenceOutput, now: float) -> None:
        """Queue an output, and wake the consumer unless it waits for an end."""
        self._queued.append(output)
        is_first, self._last_output = self._last_output is None, now
        waits_for_end = self.requests[output.request_id].delivery == "end"
        if is_first or output.finish_reason is not None or not waits_for_end:
            self._wake()

    def abort(self, why: GenerationAborted) -> None:
        """Let the consumer fail once it has taken what is queued."""
        self._aborted = self._aborted or why
        self._wake()

    def leave_out(self) -> None:
        """Expect nothing more from one of the sequences: it was cancelled."""
        self._unfinished -= 1

    async def outputs(self, idle_seconds: float) -> AsyncIterator[list[SequenceOutput]]:
        """Yield everything queued since the last time, until all sequences have ended; [] after `idle_seconds`.

        Raises:
            GenerationAborted: no more tokens will come.
        """
        try:
            self._watch_for_idleness(idle_seconds)
            while self._unfinished:
                if not self._queued and self._aborted is None:
                    self._consumer = asyncio.get_running_loop().create_future()
                    await self._consumer
                queued, self._queued = self._queued, []
                if queued or self._aborted is None:
                    self._unfinished -= sum(output.finish_reason is not None for output in queued)
                    yield queued
                if self._aborted is not None and self._unfinished:
                    raise self._aborted
        finally:
            self._consumer = None
            if self._idle_timer is not None:
                self._idle_timer.cancel()

    def _wake(self) -> None:
        """Let the consumer take what is queued."""
        if self._consumer is not None and not self._consumer.done():
            self._consumer.set_result(None)
        self._consumer = None

    def _watch_for_idleness(self, idle_seconds: float) -> None:
        """Wake the consumer when nothing has come for so long: one timer for all outputs, not one for each."""
        now = time.monotonic()
        left = max(self._last_output or self.arrived, self._last_sign) + idle_seconds - now
        if left <= 0:
            self._last_sign, left = now, idle_seconds
            self._wake()
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(left, self._watch_for_idleness, idle_seconds)


class EngineClient:
    """Owns the connection to the engine. `run` must be running for anything to happen."""

    def __init__(self, connection: socket.socket, child: Child, metrics: Metrics) -> None:
        self._connection = connection
        self._child = child
        self._metrics = metrics
        self._writer: asyncio.StreamWriter | None = None
        self._in_flight: dict[str, Generation] = {}
        self._tokens = SlidingRate(10, time.monotonic())
        self._waiting: set[str] = set()
        """The sequences in flight that have no slot yet."""
        self._waiting_tokens = 0
        self._tokens_in_flight = 0
        self._started: dict[str, float] = {}
        """When each running sequence got its slot."""
        self._slot_seconds = RecentMean(64)
        self.model: ModelInfo | None = None

    async def run(self, on_progress: Callable[[Progress], None], on_loaded: Callable[[], None]) -> None:
        """Pass messages on, from those of the load to the engine's end; never returns normally.

        Raises:
            EngineFailed: the engine could not load, died, or hangs. Every generation in flight has been aborted.
        """
        reader, self._writer = await asyncio.open_unix_connection(sock=self._connection)
        watchdog = Watchdog(time.monotonic())
        try:
            await run_together(self._read(reader, watchdog, on_progress, on_loaded), self._watch(watchdog))
        finally:
            self.abort_all(GenerationAborted("worker_lost", "The model server failed while generating. Try again."))
            await self.close()

    async def close(self) -> None:
        """End the engine process and wait until it is gone."""
        if self._writer is not None:
            self._writer.close()
        self._child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._child.wait, EXIT_SECONDS)

    def generate(self, *requests: GenerationRequest) -> Generation:
        """Send the sequences of one request to the engine."""
        generation = Generation(requests, time.monotonic())
        for request in requests:
            self._in_flight[request.request_id] = generation
            self._waiting.add(request.request_id)
            self._waiting_tokens += _tokens(request)
            self._tokens_in_flight += _tokens(request)
            self._send(request)
        return generation

    def cancel(self, generation: Generation, request_id: str | None = None) -> None:
        """Forget one sequence, or all that are still in flight; a slot is free after the step that runs now."""
        for each in generation.requests if request_id is None else (request_id,):
            if each in self._in_flight:
                self._forget(each, time.monotonic())
                generation.leave_out()
                self._send(protocol.Cancel(each))

    def abort_all(self, why: GenerationAborted) -> None:
        """End every generation in flight with GenerationAborted."""
        for generation in self._in_flight.values():
            generation.abort(why)
        self._in_flight.clear()
        self._waiting.clear()
        self._started.clear()
        self._waiting_tokens = self._tokens_in_flight = 0

    def load(self) -> Load:
        """Return how busy the engine is."""
        now = time.monotonic()
        return Load(
            running=len(self._in_flight) - len(self._waiting),
            waiting=len(self._waiting),
            slots=self.model.slots if self.model else 0,
            tokens_per_second=round(self._tokens.per_second(now), 1),
            waiting_tokens=self._waiting_tokens,
            kv_capacity_tokens=self.model.kv_tokens if self.model else 0,
        )

    @property
    def in_flight(self) -> int:
        """How many sequences run or wait."""
        return len(self._in_flight)

    @property
    def tokens_in_flight(self) -> int:
        """How many tokens they may come to, prompts and completions."""
        return self._tokens_in_flight

    def wait_seconds(self, places: int) -> float | None:
        """Return how long the last of `places` sequences waits for a slot, or None while nothing was measured."""
        held = self._slot_seconds.mean()
        if held is None and self._started:
            held = time.monotonic() - min(self._started.values())
        return None if held is None or self.model is None else places * held / self.model.slots

    async def _read(
        self,
        reader: asyncio.StreamReader,
        watchdog: Watchdog,
        on_progress: Callable[[Progress], None],
        on_loaded: Callable[[], None],
    ) -> None:
        while (message := await protocol.read(reader)) is not None:
            match message:
                case protocol.Stepped():
                    self._deliver(message)
                case protocol.Pong(number):
                    watchdog.ponged(number)
                case protocol.Loading(progress):
                    watchdog.progressed(progress.done, time.monotonic())
                    on_progress(progress)
                case protocol.Loaded(model):
                    self.model = model
                    watchdog.loaded(model.longest_step_seconds)
                    on_loaded()
                case protocol.Failed(reason, text, exit_code):
                    raise EngineFailed(text, reason=reason, exit_code=exit_code)
        raise EngineFailed(f"the engine process ended: {await self._exit_status()}")

    async def _watch(self, watchdog: Watchdog) -> None:
        number = 0
        while (complaint := watchdog.complaint(time.monotonic())) is None:
            await asyncio.sleep(PING_SECONDS)
            if self.model is not None:
                number += 1
                watchdog.pinged(number, time.monotonic())
                self._send(protocol.Ping(number))
        raise EngineFailed(complaint)

    def _deliver(self, stepped: protocol.Stepped) -> None:
        now = time.monotonic()
        for sequence in stepped.started:
            if (generation := self._in_flight.get(sequence.request_id)) is not None:
                self._start(sequence, generation, stepped.began)
        for output in stepped.outputs:
            if (generation := self._in_flight.get(output.request_id)) is None:
                continue
            generation.put(output, now)
            if output.finish_reason is not None:
                self._forget(output.request_id, now)
        if tokens := sum(step.tokens for step in stepped.steps):
            self._tokens.add(tokens, now)
        for step in stepped.steps:
            self._metrics.step(step)

    def _start(self, sequence: Started, generation: Generation, began: float) -> None:
        request = generation.requests[sequence.request_id]
        self._leave_line(request)
        self._started[sequence.request_id] = began
        generation.started(sequence, began)
        waited = max(began - generation.arrived, 0.0)
        self._metrics.sequence_started(waited, len(request.prompt_token_ids), sequence.cached_tokens)

    def _forget(self, request_id: str, now: float) -> None:
        request = self._in_flight.pop(request_id).requests[request_id]
        self._tokens_in_flight -= _tokens(request)
        self._leave_line(request)
        if (started := self._started.pop(request_id, None)) is not None:
            self._slot_seconds.add(now - started)

    def _leave_line(self, request: GenerationRequest) -> None:
        if request.request_id in self._waiting:
            self._waiting.remove(request.request_id)
            self._waiting_tokens -= _tokens(request)

    async def _exit_status(self) -> str:
        try:
            code = await asyncio.to_thread(self._child.wait, EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return "its socket is closed"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def _send(self, message: protocol.ToEngine) -> None:
        assert self._writer is not None, "run() has not been started"
        self._writer.write(protocol.frame(message))


def _tokens(request: GenerationRequest) -> int:
    """Return how many tokens a sequence may come to."""
    return len(request.prompt_token_ids) + request.sampling.max_tokens
