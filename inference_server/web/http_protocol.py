"""uvicorn's HTTP protocol with bounds on a request's head and on how long an answer may wait for its reader.

The default stack takes 64 MiB of headers, and waits for ever for the rest of half a request and for a client that reads
nothing. The body's bounds are in `web.body`, where the application reads it.
"""

from __future__ import annotations

import asyncio
import select
from typing import Any

import orjson
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from inference_server.web import errors
from inference_server.web.record import new_request_id

HEAD_LIMIT_BYTES = 32 * 1024
HEAD_DEADLINE_SECONDS = 10.0
BODY_DEADLINE_SECONDS = 30.0
"""How long the rest of a body may take whose answer is already out; the connection is of use again after it."""
UNREAD_DEADLINE_SECONDS = 60.0
"""How long a client may take nothing of an answer that waits for it; as long as nginx gives it between two writes."""
PIECES_LIMIT = 16 * 1024
"""Chunks of a body; one byte a chunk costs far more than its size."""
QUIET_SECONDS = 0.5
"""How long a connection must have been quiet before a server that goes closes it: its client may take an answer without
`connection: close` at its word, and a request that crosses with the close is lost.
"""
UNREAD_POLL_SECONDS = 0.05
"""How soon to look again at an idle connection on which something has just arrived."""
GOODBYE_SECONDS = 0.2
"""How long a server that goes waits for the client of an idle connection to close it too."""
LINGER_SECONDS = 2.0
"""How long a refused client may go on sending: closing at once would reset the connection and lose the answer."""

logger = structlog.get_logger(__name__)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Answers 431 to a head over the limit and 408 to one that does not come, and closes without losing the answer.

    A client that does not read is cut off, which ends its generation like any other leaving.
    """

    unread_deadline_seconds = UNREAD_DEADLINE_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection that says nothing is closed too."""
        self._head_bytes = 0
        self._head_tail = b""
        self._head_is_open = True
        self._body_is_open = False
        self._body_pieces = 0
        self._is_lingering = False
        self._is_leaving = False
        self._quiet_since = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        self._unread_deadline: asyncio.TimerHandle | None = None
        super().connection_made(_LingeringTransport(transport, self))  # type: ignore[arg-type]
        self._start_the_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop_the_clock()
        self._stop_waiting_for_reader()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The connection's buffer is full, and the answer waits for the client to read."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._stop_waiting_for_reader()

    def data_received(self, data: bytes) -> None:
        """Pass on at most as much of a head as it may have."""
        if self._is_lingering:
            return
        while data and self._head_is_open:
            allowed = HEAD_LIMIT_BYTES - self._head_bytes
            if allowed <= 0:
                self._refuse_head()
                return
            piece, data = data[:allowed], data[allowed:]
            self._head_bytes += len(piece)
            self._head_tail = (self._head_tail + piece)[-HEAD_LIMIT_BYTES:]
            super().data_received(piece)
            if self.transport.is_closing() or self._is_lingering:
                return
        if data:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        if not self._head_is_open:
            self._head_is_open, self._head_bytes, self._head_tail = True, 0, b""
            self._start_the_clock()

    def on_headers_complete(self) -> None:
        """The head is complete and within bounds."""
        self._head_is_open, self._body_is_open, self._head_tail = False, True, b""
        self._body_pieces = 0
        self._stop_the_clock()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take one more chunk of a body, up to so many."""
        self._body_pieces += 1
        if self._body_pieces <= PIECES_LIMIT:
            super().on_body(body)
        elif not self._is_lingering and not self.transport.is_closing():
            self._refuse_body()

    def on_response_complete(self) -> None:
        """An answer that did not wait for the body may be followed by the rest of it, but not for ever."""
        super().on_response_complete()
        if self._body_is_open and not self.transport.is_closing():
            self._stop_the_clock()
            self._deadline = self.loop.call_later(BODY_DEADLINE_SECONDS, self.transport.close)
        self._quiet_since = self.loop.time()
        if self._is_leaving and self.timeout_keep_alive_task is not None:
            self._close_when_quiet()

    def shutdown(self) -> None:
        """The server goes: every request under way is answered, and the connection closed once it is quiet."""
        self._is_leaving = True
        if self.cycle is None or self.cycle.response_complete:
            if not self.is_mid_request:
                self._close_when_quiet()
        elif not self.cycle.response_started:
            # Its head will say that the connection closes.
            self.cycle.keep_alive = False

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, unless a request has arrived that the loop has not come to read yet."""
        if self.transport.is_closing():
            return
        if self._has_unread():
            self._close_in(UNREAD_POLL_SECONDS)
        elif self._is_leaving:
            # A request that crosses with this ends with an end of file. A reset could be lost on the way through the
            # cluster's network, and its client would wait for ever.
            self.linger(self.transport, GOODBYE_SECONDS)
        else:
            super().timeout_keep_alive_handler()

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._body_is_open = False
        self._stop_the_clock()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no HTTP request."""
        self._answer(errors.invalid_request("The bytes received are not a valid HTTP request.", code="invalid_http"))

    @property
    def is_mid_request(self) -> bool:
        """Whether the client is still sending a request."""
        return self._body_is_open or (self._head_is_open and self._head_bytes > 0)

    def linger(self, transport: asyncio.Transport, seconds: float = LINGER_SECONDS) -> None:
        """Say that nothing more will come, and drop what still arrives until the client closes or time is up."""
        if not self._is_lingering:
            self._is_lingering = True
            self._stop_the_clock()
            transport.resume_reading()
            transport.write_eof()
            self._deadline = self.loop.call_later(seconds, transport.abort)

    def _refuse_head(self) -> None:
        # A head that is too large because of its key holds no key of ours, whatever the rest would have been.
        if b"authorization" in self._head_tail.rpartition(b"\r\n")[2][:64].lower():
            self._answer(errors.unauthenticated())
            return
        message = f"The request's head is larger than {HEAD_LIMIT_BYTES} bytes."
        self._answer(errors.invalid_request(message, code="headers_too_large", status=431))

    def _refuse_body(self) -> None:
        if self.cycle.response_started:
            self.transport.close()
            return
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        message = f"The request body comes in more than {PIECES_LIMIT} pieces."
        self._answer(errors.invalid_request(message, code="request_too_large", status=413))

    def _answer(self, error: errors.APIError) -> None:
        body, request_id = orjson.dumps(error.body()), new_request_id()
        lines = (
            b"content-type: application/json",
            b"connection: close",
            b"x-request-id: " + request_id.encode(),
            b"content-length: %d" % len(body),
        )
        self.transport.write(STATUS_LINE[error.status] + b"\r\n".join(lines) + b"\r\n\r\n" + body)
        logger.info("request refused", request_id=request_id, status=error.status, error=error.code)
        self.transport.close()

    def _close_when_quiet(self) -> None:
        """Close after the rest of QUIET_SECONDS, unless a request comes."""
        self._close_in(max(self._quiet_since + QUIET_SECONDS - self.loop.time(), 0.0))

    def _close_in(self, seconds: float) -> None:
        """Close an idle connection then; whatever arrives before stops this clock, which is uvicorn's own."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _has_unread(self) -> bool:
        arrived = select.poll()
        arrived.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(arrived.poll(0))

    def _wait_for_reader(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._unread_deadline = self.loop.call_later(self.unread_deadline_seconds, self._look_for_reader, unread)

    def _look_for_reader(self, unread_before: int) -> None:
        if self.transport.get_write_buffer_size() < unread_before:
            self._wait_for_reader()
        else:
            self.transport.abort()

    def _stop_waiting_for_reader(self) -> None:
        if self._unread_deadline is not None:
            self._unread_deadline.cancel()
            self._unread_deadline = None

    def _start_the_clock(self) -> None:
        self._stop_the_clock()
        self._deadline = self.loop.call_later(HEAD_DEADLINE_SECONDS, self._head_is_late)

    def _stop_the_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_is_late(self) -> None:
        if self._head_bytes:
            message = f"The request's head did not arrive within {HEAD_DEADLINE_SECONDS:g} s."
            self._answer(errors.APIError(408, "timeout_error", "request_timeout", message))
        else:
            self.transport.close()


class _LingeringTransport:
    """The connection's transport, whose `close` lets a client that is still sending read its answer first."""

    def __init__(self, transport: asyncio.Transport, protocol: BoundedHttpProtocol) -> None:
        self._transport = transport
        self._protocol = protocol

    def close(self) -> None:
        """Close now, or after the client has stopped sending."""
        if self._protocol.is_mid_request and not self._transport.is_closing():
            self._protocol.linger(self._transport)
        else:
            self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
