"""`serve`: starts the engine process, answers on both ports, and ends in order. The only place where the parts meet."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog
import uvicorn
import uvloop

from inference_server import termination
from inference_server.engine.client import Child, EngineClient, EngineFailed, GenerationAborted
from inference_server.engine.interface import LoadFailure, Progress
from inference_server.management import QuietServer, management_server
from inference_server.metrics import Metrics
from inference_server.settings import Settings
from inference_server.state import PhaseProgress, ServedModel, ServerState
from inference_server.text.tokenizer import Tokenizer
from inference_server.together import run_together
from inference_server.verification import Verification, VerificationFailed, read_verification, verify
from inference_server.web.admission import ModelServer
from inference_server.web.app import create_app
from inference_server.web.auth import ApiKeys
from inference_server.web.http_protocol import BoundedHttpProtocol
from inference_server.web.websocket_protocol import MESSAGE_LIMIT_BYTES, PING_SECONDS, BoundedWebSocketProtocol

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s of usual proxies, so that the side that opened a connection is the one that closes it."""
LAST_WORDS_SECONDS = 2.0
"""How long answers that tell of a failure or a cut may take to be written."""

logger = structlog.get_logger(__name__)


def run(
    settings: Settings, public: socket.socket, management: socket.socket, engine: tuple[Child, socket.socket]
) -> int:
    """Serve until SIGTERM or a failure; returns the exit code."""
    # The modules stay for good, and a look through all they hold (70 ms) would stop every stream.
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, public, management, engine))


async def _serve(
    settings: Settings, public: socket.socket, management: socket.socket, engine: tuple[Child, socket.socket]
) -> int:
    folder = settings.verification_dir
    verification = None if folder is None else read_verification(folder, settings.revision)
    state = ServerState(model=_served_model(settings))
    metrics = Metrics(settings.model_id)
    child, connection = engine
    client = EngineClient(connection, child, metrics)
    state.load = client.load
    metrics.watch(state)
    keys = ApiKeys(settings.api_keys_dir) if settings.api_keys_dir else None
    model_server = ModelServer(settings.model_id, settings.max_tokens, settings.max_queue_depth, state, client, metrics)
    public_server = _public_server(model_server, metrics, keys)
    stop = StopSignals()
    async with _in_background(management_server(state, metrics), management):
        serving = asyncio.create_task(public_server.serve(sockets=[public]))
        reloading = asyncio.create_task(keys.reload_forever()) if keys else None
        working = asyncio.create_task(load_and_run(settings, state, client, model_server, verification))
        stopping = asyncio.create_task(stop.first.wait())
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        try:
            if not working.done():
                await _drain(settings, state, client, model_server, public_server, serving, stop, working)
            return await _end(state, public_server, serving, working)
        finally:
            stopping.cancel()
            if reloading is not None:
                reloading.cancel()
            await client.close()


async def load_and_run(
    settings: Settings,
    state: ServerState,
    client: EngineClient,
    model_server: ModelServer,
    verification: Verification | None = None,
) -> None:
    """Load the tokenizer, become ready with the engine once it answers the prompts of `verification`, and pass messages
    on until it ends; never returns normally.

    Raises:
        EngineFailed, LoadFailure, VerificationFailed: why it ended.
    """
    loaded = asyncio.Event()
    state.enter("Loading")

    def on_progress(progress: Progress) -> None:
        if state.phase == "Loading":
            state.enter("Loading", PhaseProgress(progress.done, progress.total, progress.unit, progress.eta_seconds))

    async def become_ready() -> None:
        model_server.tokenizer = await asyncio.to_thread(_load_tokenizer, settings)
        await loaded.wait()
        assert client.model is not None
        state.model = ServedModel(state.model.ref, state.model.revision, state.model.digest, client.model.quantization)
        if verification is not None:
            await verify(verification, model_server)
        if state.phase in ("Loading", "Verifying"):
            state.enter("Ready")
            logger.info("ready", model=settings.model_id, slots=client.model.slots, device=client.model.device)

    await run_together(become_ready(), client.run(on_progress, loaded.set))


async def _drain(
    settings: Settings,
    state: ServerState,
    client: EngineClient,
    model_server: ModelServer,
    public_server: QuietServer,
    serving: asyncio.Task[None],
    stop: StopSignals,
    working: asyncio.Task[None],
) -> None:
    """Answer what is in flight and what still comes while endpoints follow; then close, at the latest after the drain.

    A server that was never ready has no endpoint and nothing in flight: it goes at once.
    """
    began = time.monotonic()
    was_ready = state.phase == "Ready"
    state.enter("Draining")
    logger.info("draining", in_flight=client.in_flight, grace_seconds=settings.endpoint_grace_seconds)
    at_once = asyncio.create_task(stop.second.wait())
    ends = (at_once, working)
    if was_ready:
        await _until_nobody_comes(settings, model_server, began, ends)
    public_server.should_exit = True
    left = max(began + settings.drain_timeout_seconds - time.monotonic(), 0.0)
    await asyncio.wait((*ends, serving), timeout=left, return_when=asyncio.FIRST_COMPLETED)
    if client.in_flight:
        logger.warning("requests cut off", in_flight=client.in_flight)
    client.abort_all(GenerationAborted("stream_interrupted", "The server is shutting down. Try again."))
    at_once.cancel()


async def _until_nobody_comes(
    settings: Settings, model_server: ModelServer, began: float, ends: tuple[asyncio.Task[Any], ...]
) -> None:
    """Return when no client has come for the endpoint grace, or one of `ends` is done; leave half of the drain for the
    answers to those that came last.

    Load balancers may learn late that this pod goes: after an outage of the API server, kube-proxy asks again only
    after 30 to 60 s.
    """
    grace = settings.endpoint_grace_seconds
    latest = began + max(grace, settings.drain_timeout_seconds / 2)
    while not any(end.done() for end in ends):
        left = min(max(began, model_server.last_client_at) + grace, latest) - time.monotonic()
        if left <= 0:
            return
        await asyncio.wait(ends, timeout=left, return_when=asyncio.FIRST_COMPLETED)


async def _end(
    state: ServerState, public_server: QuietServer, serving: asyncio.Task[None], working: asyncio.Task[None]
) -> int:
    """Let last words out, and return the exit code; after a failure the termination message tells of it."""
    failure: BaseException | None = None
    if working.done():
        failure = working.exception()
        reason, exit_code = ("EngineFailed", 70)
        if isinstance(failure, EngineFailed | LoadFailure | VerificationFailed):
            reason, exit_code = failure.reason, failure.exit_code
        state.fail(reason, str(failure))
        logger.error("serving failed", reason=reason, error=str(failure))
        termination.write_failure(reason, str(failure))
    public_server.should_exit = True
    await asyncio.wait((serving,), timeout=LAST_WORDS_SECONDS)
    serving.cancel()
    working.cancel()
    await asyncio.gather(serving, working, return_exceptions=True)
    return exit_code if failure is not None else 0


class StopSignals:
    """SIGTERM and SIGINT: the first asks for an orderly end, the second for an end."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


@contextlib.asynccontextmanager
async def _in_background(server: QuietServer, listener: socket.socket) -> AsyncIterator[None]:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        # Nobody needs the last answer of this port, and an orderly end would be a third of the second that an exit has.
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def _public_server(model_server: ModelServer, metrics: Metrics, keys: ApiKeys | None) -> QuietServer:
    config = uvicorn.Config(
        create_app(model_server, metrics, keys),
        http=BoundedHttpProtocol,
        ws=BoundedWebSocketProtocol,
        ws_max_size=MESSAGE_LIMIT_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        # A megabyte of zeros is a kilobyte of frames, and tokens are too short to gain from it.
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    return QuietServer(config)


def _served_model(settings: Settings) -> ServedModel:
    return ServedModel(
        settings.model_ref or settings.model_name,
        settings.model_revision,
        settings.model_digest,
        None if settings.wanted_quantization == "auto" else settings.wanted_quantization,
    )


def _load_tokenizer(settings: Settings) -> Tokenizer:
    if settings.engine == "fake":
        from inference_server.text.fake import FakeTokenizer

        return FakeTokenizer()
    from inference_server.text.hub import HubTokenizer

    folder = settings.engine_config().model_path
    assert folder is not None, "a real engine has a folder"
    return HubTokenizer(Path(folder))
