"""uvicorn's WebSocket protocol with bounds on what a peer may send, and on how long what is sent may wait for it.

The library has the rest: masks, reserved bits, invalid UTF-8, the size of a message, and pings that find dead peers.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

DRAIN = "llmservice.drain"
"""The type of the ASGI message that tells the application to finish what it has begun: the server stops."""
MESSAGE_LIMIT_BYTES = 1024 * 1024
FRAGMENT_LIMIT = 1024
"""Pieces of one message; one byte a piece costs far more than its size."""
PING_SECONDS = 20.0
"""A peer that does not answer a ping within as long again is gone, so its slots are free within 40 s."""
PING_BURST = 30
"""Pings that a peer may send at once; after that one a second. Libraries send one every 20 s."""
UNREAD_DEADLINE_SECONDS = 30.0
LINGER_SECONDS = 2.0


class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
    """Closes a peer that floods with 1008 or 1009, and one that does not read with 1013."""

    unread_deadline_seconds = UNREAD_DEADLINE_SECONDS

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        # A peer that does not answer the closing frame must not hold up the end of the server.
        self.close_timeout = 0.5
        self._pings = float(PING_BURST)
        self._last_ping = time.monotonic()
        self._unread_deadline: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_waiting_for_reader()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The connection's buffer is full, and what comes next waits for the peer to read."""
        super().pause_writing()
        self._unread_deadline = self.loop.call_later(self.unread_deadline_seconds, self._reader_is_late)

    def resume_writing(self) -> None:
        """The peer has read."""
        super().resume_writing()
        self._stop_waiting_for_reader()

    def shutdown(self) -> None:
        """Let the application finish what it has begun, where uvicorn would cut it."""
        if self.handshake_complete and not self.close_sent:
            drain: Any = {"type": DRAIN}
            self.queue.put_nowait(drain)
        else:
            super().shutdown()

    def handle_cont(self, event: Frame) -> None:
        """Take one more piece of a message, up to so many."""
        if self.close_sent:
            return
        if len(self.frames) >= FRAGMENT_LIMIT:
            self.frames = []
            self._fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping, while they come at a reasonable rate."""
        if self.close_sent:
            return
        now = time.monotonic()
        self._pings = min(self._pings + now - self._last_ping, PING_BURST) - 1
        self._last_ping = now
        if self._pings < 0:
            self._fail(CloseCode.POLICY_VIOLATION, "too many pings")
        else:
            super().handle_ping()

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def _reader_is_late(self) -> None:
        # What is buffered may still arrive, and the reason after it, if the peer reads now; else nothing does.
        self._unread_deadline = None
        if not self.close_sent:
            self._fail(CloseCode.TRY_AGAIN_LATER, "what was sent has not been read")
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _stop_waiting_for_reader(self) -> None:
        if self._unread_deadline is not None:
            self._unread_deadline.cancel()
            self._unread_deadline = None
