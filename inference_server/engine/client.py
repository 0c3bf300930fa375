"""The web process's end of the engine: starts the engine process, sends it sequences, hands out what it generates.

One task reads the socket. It appends each sequence's outputs to that sequence's `Generation` and wakes its consumer
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
from collections.abc import AsyncIterator, Callable
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
from inference_server.rate import SlidingRate
from inference_server.state import Load

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
    """

    def __init__(self, code: Literal["worker_lost", "stream_interrupted"], message: str) -> None:
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
    """One sequence in flight."""

    def __init__(self, request_id: str, arrived: float) -> None:
        self.request_id = request_id
        self.arrived = arrived
        self.has_started = False
        self._queued: list[SequenceOutput] = []
        self._changed = asyncio.Event()
        self._aborted: GenerationAborted | None = None

    def put(self, output: SequenceOutput) -> None:
        """Queue an output for the consumer."""
        self._queued.append(output)
        self._changed.set()

    def abort(self, why: GenerationAborted) -> None:
        """Let the consumer fail once it has taken what is queued."""
        self._aborted = why
        self._changed.set()

    async def outputs(self, idle_seconds: float) -> AsyncIterator[list[SequenceOutput]]:
        """Yield everything queued since the last time, until the sequence is finished; [] after `idle_seconds`.

        Raises:
            GenerationAborted: no more tokens will come.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(idle_seconds):
                    await self._changed.wait()
            self._changed.clear()
            queued, self._queued = self._queued, []
            if queued or self._aborted is None:
                yield queued
            if queued and queued[-1].finish_reason is not None:
                return
            if self._aborted is not None:
                raise self._aborted


class EngineClient:
    """Owns the connection to the engine. `run` must be running for anything to happen."""

    def __init__(self, connection: socket.socket, child: Child, metrics: Metrics) -> None:
        self._connection = connection
        self._child = child
        self._metrics = metrics
        self._writer: asyncio.StreamWriter | None = None
        self._in_flight: dict[str, Generation] = {}
        self._tokens = SlidingRate(10, time.monotonic())
        self._finished = SlidingRate(60, time.monotonic())
        self.model: ModelInfo | None = None

    async def run(self, on_progress: Callable[[Progress], None], on_loaded: Callable[[], None]) -> None:
        """Pass messages on, from those of the load to the engine's end; never returns normally.

        Raises:
            EngineFailed: the engine could not load, died, or hangs. Every generation in flight has been aborted.
        """
        reader, self._writer = await asyncio.open_unix_connection(sock=self._connection)
        watchdog = Watchdog(time.monotonic())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(reader, watchdog, on_progress, on_loaded))
                tasks.create_task(self._watch(watchdog))
        except* EngineFailed as failures:
            raise failures.exceptions[0] from None
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

    def generate(self, request: GenerationRequest) -> Generation:
        """Send a sequence to the engine."""
        generation = Generation(request.request_id, time.monotonic())
        self._in_flight[request.request_id] = generation
        self._send(request)
        return generation

    def cancel(self, generation: Generation) -> None:
        """Forget a sequence, if it is still in flight; its slot is free after the step that runs now."""
        if self._in_flight.pop(generation.request_id, None) is not None:
            self._finished.add(1, time.monotonic())
            self._send(protocol.Cancel(generation.request_id))

    def abort_all(self, why: GenerationAborted) -> None:
        """End every generation in flight with GenerationAborted."""
        for generation in self._in_flight.values():
            generation.abort(why)
        self._in_flight.clear()

    def load(self) -> Load:
        """Return how busy the engine is."""
        running = sum(generation.has_started for generation in self._in_flight.values())
        return Load(
            running=running,
            waiting=len(self._in_flight) - running,
            slots=self.model.slots if self.model else 0,
            tokens_per_second=round(self._tokens.per_second(time.monotonic()), 1),
        )

    @property
    def in_flight(self) -> int:
        """How many sequences run or wait."""
        return len(self._in_flight)

    def finished_per_second(self) -> float:
        """Return how many sequences finished per second of late."""
        return self._finished.per_second(time.monotonic())

    async def _read(
        self,
        reader: asyncio.StreamReader,
        watchdog: Watchdog,
        on_progress: Callable[[Progress], None],
        on_loaded: Callable[[], None],
    ) -> None:
        while (message := await protocol.read(reader)) is not None:
            match message:
                case protocol.Stepped(output, began):
                    self._deliver(output.outputs, output.started, began)
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

    def _deliver(self, outputs: list[SequenceOutput], started: list[Started], began: float) -> None:
        now = time.monotonic()
        for sequence in started:
            if (generation := self._in_flight.get(sequence.request_id)) is not None:
                generation.has_started = True
                self._metrics.sequence_started(max(began - generation.arrived, 0.0))
        tokens = 0
        for output in outputs:
            tokens += len(output.token_ids)
            if (generation := self._in_flight.get(output.request_id)) is None:
                continue
            generation.put(output)
            if output.finish_reason is not None:
                del self._in_flight[output.request_id]
                self._finished.add(1, now)
        if tokens:
            self._tokens.add(tokens, now)
        self._metrics.step(now - began, len(outputs), tokens)

    async def _exit_status(self) -> str:
        try:
            code = await asyncio.to_thread(self._child.wait, EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return "its socket is closed"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def _send(self, message: protocol.ToEngine) -> None:
        assert self._writer is not None, "run() has not been started"
        self._writer.write(protocol.frame(message))
