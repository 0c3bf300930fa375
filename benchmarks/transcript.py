"""What came over the wire for one request, read after the clock has stopped.

While the clock runs the client only notes when which bytes came: everything it did more would be taken from the
servers, which run on the same cores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

COMPLETION_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')
END_OF_HEAD = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class PeerError(Exception):
    """A server did not answer as it must; the text says what came instead."""


@dataclass(frozen=True)
class Reply:
    """One answer: its completion tokens, and the seconds from sending to the first text and to the end."""

    tokens: int
    ttft_seconds: float
    seconds: float


def reply(sent: float, pieces: Sequence[tuple[float, bytes]]) -> Reply:
    """Read an HTTP/1.1 response from its `pieces` (time of arrival, bytes).

    The first text is the first event of a stream, and the whole body where the server does not stream.

    Raises:
        PeerError: the status is not 200, the answer holds an error, or no count of completion tokens.
    """
    raw = b"".join(data for _, data in pieces)
    head, _, body = raw.partition(END_OF_HEAD)
    counts = COMPLETION_TOKENS.findall(body)
    if not head.startswith(b"HTTP/1.1 200") or b'"error"' in body or not counts:
        raise PeerError(f"{head[:60]!r} … {body[-300:]!r}")
    event = body.find(b"data:")
    first = _arrival(pieces, len(head) + len(END_OF_HEAD) + max(event, 0))
    return Reply(int(counts[-1]), first - sent, pieces[-1][0] - sent)


def _arrival(pieces: Sequence[tuple[float, bytes]], position: int) -> float:
    """Return when the byte at `position` of the response came."""
    for at, data in pieces:
        position -= len(data)
        if position < 0:
            return at
    raise PeerError("the answer ends before its body")


class EndOfResponse:
    """Tells from the bytes alone when a response is complete, by its length or by the last of its chunks."""

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        self._missing: int | None = None
        self._in_body = False

    def after(self, data: bytes) -> bool:
        """Take the next bytes, and return whether they end the response."""
        if not self._in_body:
            self._head += data
            head, separator, data = self._head.partition(END_OF_HEAD)
            if not separator:
                return False
            self._in_body = True
            if length := re.search(rb"\r\ncontent-length:\s*(\d+)", head, re.IGNORECASE):
                self._missing = int(length[1])
        if self._missing is not None:
            self._missing -= len(data)
            return self._missing <= 0
        self._tail = (self._tail + data)[-len(LAST_CHUNK) :]
        return self._tail == LAST_CHUNK
