"""WS /ws/generate: many generations on one socket, each with the client's own id; subprotocol `llm.v1`.

Client to server: `generate`, `cancel`, `ping`. Server to client: `accepted`, `token`, `done`, `error`, `pong`. The
fields of `generate` are those of /generate (`text`) or of /v1/chat/completions (`messages`); docs/server.md has them.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson
from starlette.types import Message, Receive, Scope, Send

from inference_server.metrics import Metrics
from inference_server.web import errors
from inference_server.web.access import report
from inference_server.web.admission import ModelServer
from inference_server.web.ask import Ask
from inference_server.web.body import validated
from inference_server.web.chat import ChatCompletionRequest
from inference_server.web.errors import APIError
from inference_server.web.generate import GenerateRequest
from inference_server.web.record import RequestRecord, record_of
from inference_server.web.websocket_protocol import DRAIN

PATH = "/ws/generate"
SUBPROTOCOL = "llm.v1"
MAX_GENERATIONS = 32
MAX_STRIKES = 3
"""Frames that are no JSON object; a peer that sends so many speaks another protocol."""
IDLE_SECONDS = 300.0
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ABOUT_HTTP = ("stream", "stream_options", "n", "logprobs", "top_logprobs")
"""Fields of the HTTP bodies that the frames here have no place for."""

Close = Literal[1001, 1003]


@dataclass
class _Running:
    task: asyncio.Task[None]
    is_cancelled: bool = False


class GenerateSocket:
    """The ASGI application of the path. `idle_seconds` is how long a socket may be open for nothing."""

    def __init__(self, server: ModelServer, metrics: Metrics, idle_seconds: float = IDLE_SECONDS) -> None:
        self._server = server
        self._metrics = metrics
        self._idle_seconds = idle_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket; a refusal is an HTTP answer, before the upgrade."""
        await receive()
        try:
            if scope["path"] != PATH:
                raise errors.invalid_request("There is no such path.", code="not_found", status=404)
            _check_origin(scope)
            self._server.let_in()
        except APIError as error:
            record_of(scope).error_code = error.code
            await error.response(scope["path"])(scope, receive, send)
            return
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        await _Conversation(self._server, self._metrics, self._idle_seconds, record_of(scope), receive, send).run()


class _Conversation:
    def __init__(
        self,
        server: ModelServer,
        metrics: Metrics,
        idle_seconds: float,
        record: RequestRecord,
        receive: Receive,
        send: Send,
    ) -> None:
        self._server = server
        self._metrics = metrics
        self._idle_seconds = idle_seconds
        self._record = record
        self._receive = receive
        self._send = send
        self._running: dict[str, _Running] = {}
        self._strikes = 0

    async def run(self) -> None:
        """Take frames until either side closes; whatever still runs then is stopped."""
        try:
            code = await self._converse()
            if code is not None:
                await self._send({"type": "websocket.close", "code": code})
        except OSError:
            # uvicorn's word for a peer that left while something was being sent.
            pass
        finally:
            tasks = [running.task for running in self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _converse(self) -> Close | None:
        """Return the code to close with, or None when the peer has closed."""
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    message = await self._receive()
            except TimeoutError:
                if self._running:
                    continue
                return 1001
            match message["type"]:
                case "websocket.disconnect":
                    return None
                case str(kind) if kind == DRAIN:
                    await asyncio.gather(*(running.task for running in self._running.values()), return_exceptions=True)
                    return 1001
            if not await self._take(message):
                return 1003

    async def _take(self, message: Message) -> bool:
        """Act on one frame; return whether the peer is one to go on talking to."""
        text = message.get("text")
        if text is None:
            return False
        try:
            frame = orjson.loads(text)
            is_object = isinstance(frame, dict)
        except orjson.JSONDecodeError:
            is_object = False
        if not is_object:
            self._strikes += 1
            await self._say_error(None, errors.invalid_request("Send a JSON object.", code="invalid_json"))
            return self._strikes < MAX_STRIKES
        given = frame.pop("id", None)
        kind = frame.pop("type", None)
        identity = given if isinstance(given, str) and _ID.fullmatch(given) else None
        try:
            await self._obey(kind, identity, frame)
        except APIError as error:
            await self._say_error(identity, error)
        return True

    async def _obey(self, kind: object, identity: str | None, frame: dict[str, Any]) -> None:
        match kind:
            case "ping":
                await self._say({"type": "pong", **({"t": frame["t"]} if "t" in frame else {})})
            case "generate":
                self._generate(identity, frame)
                # It begins now: a task that is cancelled before it has begun says nothing, not even that.
                await asyncio.sleep(0)
            case "cancel":
                if identity is None or identity not in self._running:
                    message = "There is no generation of that id on this socket."
                    raise errors.invalid_request(message, param="id", code="unknown_id")
                running = self._running[identity]
                running.is_cancelled = True
                running.task.cancel()
            case _:
                message = "Unknown type of frame: send generate, cancel or ping."
                raise errors.invalid_request(message, param="type", code="unsupported_value")

    def _generate(self, identity: str | None, frame: dict[str, Any]) -> None:
        if identity is None:
            message = "Give the generation an id: 1 to 128 letters, digits, dots, dashes or underscores."
            raise errors.invalid_request(message, param="id", code="invalid_value")
        if identity in self._running:
            message = "A generation of that id is running on this socket."
            raise errors.invalid_request(message, param="id", code="duplicate_id")
        if len(self._running) >= MAX_GENERATIONS:
            message = f"{MAX_GENERATIONS} generations are running on this socket: wait for one to end."
            raise errors.APIError(429, "rate_limit_error", "too_many_generations", message)
        self._server.ensure_ready()
        self._server.ensure_room()
        ask = self._ask(frame)
        task = asyncio.create_task(self._answer(identity, ask))
        self._running[identity] = _Running(task)
        task.add_done_callback(lambda _: self._running.pop(identity, None))

    def _ask(self, frame: dict[str, Any]) -> Ask:
        for name in _ABOUT_HTTP:
            if name in frame:
                raise errors.invalid_request(
                    f"Unsupported parameter: '{name}'.", param=name, code="unsupported_parameter"
                )
        if "messages" in frame:
            chat = validated(ChatCompletionRequest, {"model": self._server.model_id, **frame})
            self._server.ensure_model(chat.model)
            return chat.ask()
        self._server.ensure_model(frame.pop("model", None) or self._server.model_id)
        return validated(GenerateRequest, frame).ask()

    async def _answer(self, identity: str, ask: Ask) -> None:
        record = RequestRecord(f"{self._record.request_id}-{identity}", tenant=self._record.tenant, stream=True)
        began, status = time.monotonic(), 200
        try:
            await self._stream(identity, ask, record)
        except APIError as error:
            record.error_code, status = error.code, error.status
            await self._say_error(identity, error)
        except asyncio.CancelledError:
            record.finish_reason = "cancelled"
            running = self._running.get(identity)
            if running is None or not running.is_cancelled:
                raise
            await self._say_done(identity, record)
        finally:
            report(self._metrics, record, "WS", PATH, status, time.monotonic() - began)

    async def _stream(self, identity: str, ask: Ask, record: RequestRecord) -> None:
        completion = await self._server.complete(ask, record)
        try:
            await self._say({"type": "accepted", "id": identity})
            async for pieces in completion.pieces():
                for piece in pieces:
                    if piece.text:
                        count = completion.usage.completion_tokens
                        await self._say({"type": "token", "id": identity, "n": count, "text": piece.text})
        finally:
            completion.close()
        await self._say_done(identity, record)

    async def _say_done(self, identity: str, record: RequestRecord) -> None:
        prompt_tokens, completion_tokens = record.prompt_tokens or 0, record.completion_tokens or 0
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }
        done = {"type": "done", "id": identity, "n": completion_tokens}
        await self._say({**done, "finish_reason": record.finish_reason, "usage": usage})

    async def _say_error(self, identity: str | None, error: APIError) -> None:
        await self._say({"type": "error", "id": identity, **error.body()})

    async def _say(self, frame: dict[str, Any]) -> None:
        await self._send({"type": "websocket.send", "text": orjson.dumps(frame).decode()})


def _check_origin(scope: Scope) -> None:
    """Refuse a page of another site: a browser sends its user's network position, and names the page's origin."""
    headers = dict(scope["headers"])
    origin = headers.get(b"origin")
    if origin is not None and urlsplit(origin.decode("latin-1")).netloc.encode("latin-1") != headers.get(b"host"):
        raise errors.APIError(403, "permission_error", "origin_not_allowed", "Pages of other sites may not connect.")
