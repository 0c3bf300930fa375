"""The client: keeps a number of requests in flight (closed loop), or sends them at given times (open loop).

One process, raw HTTP/1.1 over kept connections, requests encoded before the clock starts: the client shares its cores
with the server that it measures.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, cast

from benchmarks.transcript import EndOfResponse, PeerError, Reply, reply

ANSWER_SECONDS = 300.0


@dataclass(frozen=True)
class Load:
    """What a load came to: completion tokens in `seconds`, and each request's time to first token, ascending."""

    tokens: int
    seconds: float
    ttft_seconds: list[float]


def request(port: int, path: str, body: dict[str, Any]) -> bytes:
    """Return the bytes of a POST of `body` as JSON."""
    encoded = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(encoded)}\r\n\r\n"
    )
    return head.encode() + encoded


async def closed_loop(port: int, requests: Sequence[bytes], concurrency: int, window_seconds: float) -> Load:
    """Send `requests`, `concurrency` of them in flight at any time, until all are answered.

    What is not answered within `window_seconds` is given up, and the clock stops at the last answer: exact for a server
    that answers one at a time, which would take minutes. One answer is waited for in any case.

    Raises:
        PeerError: a server refused, failed or fell silent.
    """
    left = iter(requests)
    replies: list[Reply] = []
    began = ended = perf_counter()

    async def client() -> None:
        nonlocal ended
        connection = await _Connection.open(port)
        try:
            for raw in left:
                replies.append(await connection.answer(raw))
                ended = perf_counter()
        finally:
            connection.close()

    tasks = [asyncio.create_task(client()) for _ in range(concurrency)]
    done, late = await asyncio.wait(tasks, timeout=window_seconds, return_when=asyncio.FIRST_EXCEPTION)
    while late and not replies and not done:
        done, late = await asyncio.wait(tasks, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
    for task in late:
        task.cancel()
    # Each outcome is looked at: an error that nobody asks a task for is logged whenever the task is collected.
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    return _load(replies, ended - began)


async def open_loop(port: int, requests: Sequence[bytes], arrivals: Sequence[float]) -> Load:
    """Send each of `requests` at its time of `arrivals` (seconds from now), however many are in flight by then."""
    free: list[_Connection] = []
    began = perf_counter()

    async def client(raw: bytes, at: float) -> Reply:
        await asyncio.sleep(at - (perf_counter() - began))
        # A server closes what was idle for long.
        kept = next((free.pop(i) for i in reversed(range(len(free))) if free[i].is_open), None)
        connection = kept or await _Connection.open(port)
        answer = await connection.answer(raw)
        free.append(connection)
        return answer

    tasks = [asyncio.create_task(client(raw, at)) for raw, at in zip(requests, arrivals, strict=True)]
    try:
        replies = await asyncio.gather(*tasks)
        return _load(replies, perf_counter() - began)
    finally:
        for task in tasks:
            task.cancel()
        for connection in free:
            connection.close()


def _load(replies: Iterable[Reply], seconds: float) -> Load:
    answered = list(replies)
    if not answered:
        raise PeerError("no request was answered within the window")
    return Load(sum(one.tokens for one in answered), seconds, sorted(one.ttft_seconds for one in answered))


class _Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._pieces: list[tuple[float, bytes]] = []
        self._end = EndOfResponse()
        self._answered: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, port: int) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def answer(self, raw: bytes) -> Reply:
        self._pieces, self._end = [], EndOfResponse()
        self._answered = asyncio.get_running_loop().create_future()
        sent = perf_counter()
        self._transport.write(raw)
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._answered
        return reply(sent, self._pieces)

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by inheritance.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._pieces.append((perf_counter(), data))
        if self._end.after(data) and self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(PeerError(f"the connection ended in the middle of an answer: {exc}"))
