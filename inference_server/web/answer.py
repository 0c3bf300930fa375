"""Sends a completion, whole or as server-sent events, and stops its generation when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from inference_server.web.choice import Piece
from inference_server.web.errors import APIError
from inference_server.web.generation import Completion, Usage, WholeChoice
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

    def first(self, choices: int) -> bytes:
        """Return the frames that open the stream."""
        ...

    def piece(self, piece: Piece) -> bytes:
        """Return the frames of one piece of a choice."""
        ...

    def last(self, usage: Usage) -> bytes:
        """Return the frames that end a stream that went well."""
        ...

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        ...


class CompletionResponse(Response):
    """The answer to one request; APIError comes out of its call only before the first byte was sent."""

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
        choices = await self._completion.whole()
        body = orjson.dumps(self._format.whole(choices, self._completion.usage))
        await Response(body, media_type="application/json")(scope, receive, send)

    async def _send_stream(self, scope: Scope, send: Send) -> None:
        """Send frames; a failure after the first byte goes out as `data: {"error": …}` and is never followed by [DONE].

        The official client takes a stream that ends without either for a success.
        """
        completion, frames_of = self._completion, self._format.piece
        has_started = False
        try:
            async for pieces in completion.pieces():
                chunk = frames_of(pieces[0]) if len(pieces) == 1 else b"".join(map(frames_of, pieces)) or PING
                if not has_started:
                    await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
                    chunk = self._format.first(completion.choice_count) + chunk
                    has_started = True
                if completion.has_ended:
                    chunk += self._format.last(completion.usage) + DONE
                    await send({"type": "http.response.body", "body": chunk})
                else:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except APIError as error:
            if not has_started:
                raise
            record_of(scope).error_code = error.code
            frame = b"data: " + orjson.dumps(error.body()) + b"\n\n"
            await send({"type": "http.response.body", "body": frame})


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
