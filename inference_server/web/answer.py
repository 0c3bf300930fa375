"""Sends a completion, whole or as server-sent events, and stops its generation when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from inference_server.web.errors import APIError
from inference_server.web.generation import Completion, Usage
from inference_server.web.record import record_of

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Format(Protocol):
    """How one route writes a completion."""

    def first(self) -> bytes:
        """Return the frame that opens the stream."""
        ...

    def text(self, text: str) -> bytes:
        """Return the frame of one piece of text."""
        ...

    def last(self, finish_reason: str, usage: Usage) -> bytes:
        """Return the frames that end a stream that went well."""
        ...

    def whole(self, text: str, finish_reason: str, usage: Usage) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        ...


class CompletionResponse(Response):
    """The answer with one completion; APIError comes out of its call only before the first byte was sent."""

    def __init__(self, completion: Completion, wire_format: Format, stream: bool) -> None:
        self._completion = completion
        self._format = wire_format
        self._stream = stream
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        answer = self._send_stream(scope, send) if self._stream else self._send_whole(scope, receive, send)
        try:
            if not await _finished_before_disconnect(answer, receive):
                record_of(scope).finish_reason = "cancelled"
        finally:
            self._completion.close()

    async def _send_whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        text, finish_reason = await self._completion.whole()
        record_of(scope).finish_reason = finish_reason
        body = orjson.dumps(self._format.whole(text, finish_reason, self._completion.usage))
        await Response(body, media_type="application/json")(scope, receive, send)

    async def _send_stream(self, scope: Scope, send: Send) -> None:
        """Send frames; a failure after the first byte goes out as `data: {"error": …}` and is never followed by [DONE].

        The official client takes a stream that ends without either for a success.
        """
        record = record_of(scope)
        has_started = False
        try:
            async for piece in self._completion.pieces():
                chunk = b"" if has_started else self._format.first()
                if not has_started:
                    await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
                    has_started = True
                if piece.text:
                    chunk += self._format.text(piece.text)
                if piece.finish_reason is not None:
                    record.finish_reason = piece.finish_reason
                    chunk += self._format.last(piece.finish_reason, self._completion.usage) + DONE
                await send({"type": "http.response.body", "body": chunk or PING, "more_body": True})
        except APIError as error:
            if not has_started:
                raise
            record.error_code = error.code
            frame = b"data: " + orjson.dumps(error.body()) + b"\n\n"
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _finished_before_disconnect(work: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Run `work` to its end and return True, or cancel it when the client leaves and return False."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        await working
        return True
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
