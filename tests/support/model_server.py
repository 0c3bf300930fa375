"""The real public application on the fake engine, in this process: the engine loop runs in a thread behind its socket.

Nothing is replaced but the process boundary, so unit tests check answers, bytes and slots of the server as it is.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from inference_server import logging
from inference_server.engine import process
from inference_server.engine.client import EngineClient
from inference_server.engine.fake import FakeEngine
from inference_server.metrics import Metrics
from inference_server.serve import load_and_run
from inference_server.settings import Settings
from inference_server.state import ServerState
from inference_server.text.fake import FakeTokenizer
from inference_server.verification import Verification
from inference_server.web.admission import ModelServer
from inference_server.web.app import create_app
from inference_server.web.auth import ApiKeys

MODEL = "tiny"
READY_SECONDS = 10.0


class EngineThread:
    """Stands in for the engine process: the same loop at the same kind of socket."""

    def __init__(self, settings: Settings, theirs: socket.socket) -> None:
        config = settings.engine_config()
        self._theirs = theirs
        self._thread = threading.Thread(target=self._run, args=(FakeEngine(config),), daemon=True)
        self._thread.start()

    def _run(self, engine: FakeEngine) -> None:
        with self._theirs:
            process.serve(engine, self._theirs, when_alone=lambda: None)

    def die(self) -> None:
        """Close the engine's end of the socket, as the kernel does for a process that is killed."""
        self._theirs.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """Nothing to kill: the loop ends when its socket does."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the loop to end."""
        self._thread.join(timeout)
        return -9


@dataclass
class RunningServer:
    """A server that answers, and what a test may look at."""

    app: Any
    http: httpx.AsyncClient
    client: EngineClient
    state: ServerState
    engine: EngineThread
    metrics: Metrics
    model_server: ModelServer
    failures: list[BaseException] = field(default_factory=list)
    begun: int = 0
    """Answers to `http` whose first piece of the body was sent."""

    async def events(self, path: str, body: dict[str, Any]) -> list[str]:
        """POST and return the payloads of the answered server-sent events, comments left out."""
        answer = await self.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        return events_of(answer.text)


def events_of(text: str) -> list[str]:
    """Return the payloads of a stream of server-sent events."""
    frames = [frame for frame in text.split("\n\n") if frame and not frame.startswith(":")]
    assert all(frame.startswith("data: ") for frame in frames), frames
    return [frame.removeprefix("data: ") for frame in frames]


def chunks_of(events: list[str]) -> list[dict[str, Any]]:
    """Return the JSON payloads of a stream that went well, its [DONE] checked and left out."""
    assert events[-1] == "[DONE]"
    return [orjson.loads(event) for event in events[:-1]]


def make_settings(**given: Any) -> Settings:
    """Return the settings of a quick server on the fake engine."""
    quick = {"fake_first_token_seconds": 0.0, "fake_tokens_per_second": 20_000.0}
    return Settings(model_name=MODEL, engine="fake", **{**quick, **given})


@asynccontextmanager
async def starting_server(verification: Verification | None = None, **given: Any) -> AsyncIterator[RunningServer]:
    """Yield a server whose engine is still loading, unless it was quick."""
    settings = make_settings(**given)
    logging.configure(settings.log_format, settings.log_level)
    ours, theirs = socket.socketpair()
    engine = EngineThread(settings, theirs)
    state, metrics = ServerState(), Metrics(settings.model_id)
    client = EngineClient(ours, engine, metrics)
    state.load = client.load
    metrics.watch(state)
    model_server = ModelServer(settings.model_id, settings.max_tokens, settings.max_queue_depth, state, client, metrics)
    keys = ApiKeys(settings.api_keys_dir) if settings.api_keys_dir else None
    app = create_app(model_server, metrics, keys)

    async def app_that_counts(scope: Any, receive: Any, send: Any) -> None:
        has_begun = False

        async def sent(message: Any) -> None:
            nonlocal has_begun
            await send(message)
            if message["type"] == "http.response.body" and not has_begun:
                has_begun = True
                server.begun += 1

        await app(scope, receive, sent)

    transport = httpx.ASGITransport(app_that_counts, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        server = RunningServer(app, http, client, state, engine, metrics, model_server)
        working = asyncio.create_task(_work(settings, server, verification))
        try:
            yield server
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


@asynccontextmanager
async def running_server(has_chat_template: bool = True, **given: Any) -> AsyncIterator[RunningServer]:
    """Yield a server that is ready."""
    async with starting_server(**given) as server:
        await eventually(lambda: server.state.phase == "Ready")
        server.model_server.tokenizer = FakeTokenizer(has_chat_template=has_chat_template)
        yield server


async def _work(settings: Settings, server: RunningServer, verification: Verification | None) -> None:
    try:
        await load_and_run(settings, server.state, server.client, server.model_server, verification)
    except Exception as error:
        server.failures.append(error)
        raise


async def eventually(holds: Callable[[], bool], seconds: float = READY_SECONDS) -> float:
    """Wait until `holds()`, and return how long it took.

    Raises:
        TimeoutError: it did not hold within `seconds`.
    """
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event to wait on
            await asyncio.sleep(0.002)
    return time.monotonic() - began
