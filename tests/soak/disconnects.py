"""Clients that leave at random points, and what they leave behind: nothing.

They leave inside the head or the body of their request, in the waiting line, during prefill, in the middle of the
answer and at its very end; by a reset, by closing, and by closing their own half first; over HTTP and WebSocket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.soak.footprint import compare, footprint, settled
from tests.soak.report import Report, quantile
from tests.support.server_process import ServerProcess, ready_server

Point = Literal["head", "body", "waiting or prefill", "mid-answer", "end"]
POINTS: tuple[Point, ...] = ("head", "body", "waiting or prefill", "mid-answer", "end")
Farewell = Literal["reset", "close", "half-close"]
FAREWELLS: tuple[Farewell, ...] = ("reset", "close", "half-close")
CLIENTS = 48
HANG_SECONDS = 60.0
SLOT_FREE_SECONDS = 0.2
FAKE: Mapping[str, object] = {
    "LLMSERVICE_MAX_BATCH_SIZE": 16,
    "LLMSERVICE_MAX_QUEUE_DEPTH": 64,
    "LLMSERVICE_FAKE_FIRST_TOKEN_SECONDS": 0.02,
    "LLMSERVICE_FAKE_TOKENS_PER_SECOND": 500,
}


@dataclass(frozen=True)
class Visit:
    """One client: it sends `sends` bytes of `request`, reads until `until` or `reads` bytes, waits, and leaves.

    A WebSocket's client sends `greeting` before, and waits for the head of the answer.
    """

    greeting: bytes
    request: bytes
    sends: int
    reads: int
    until: bytes | None
    waits_seconds: float
    farewell: Farewell


def visit_at(point: Point, chance: random.Random) -> Visit:
    """Return a client that leaves at a random place of `point`."""
    # Whoever reads a number of bytes may ask for more than there are, and then needs the end of the connection.
    more = "connection: close\r\n" if point == "mid-answer" else ""
    is_streamed, is_socket = chance.random() < 0.7, chance.random() < 0.25
    head, body = _frames(chance) if is_socket else _request(chance, is_streamed, more)
    greeting = head if is_socket and point != "head" else b""
    if not greeting:
        body = head + body
    sends, reads, until, waits = len(body), 0, None, 0.0
    match point:
        case "head":
            sends = chance.randrange(len(head))
        case "body":
            sends = chance.randrange(0 if greeting else len(head), len(body))
        case "waiting or prefill":
            waits = chance.uniform(0, 0.06)
        case "mid-answer":
            # Of a socket, which stays open, no more than the shortest answer has.
            reads = chance.randrange(1, 100 if is_socket else 3000 if is_streamed else 200)
        case "end":
            until = b'"type":"done"' if is_socket else b"[DONE]\n\n" if is_streamed else b"}"
            waits = chance.choice([0.0, 0.005])
    return Visit(greeting, body, sends, reads, until, waits, chance.choice(FAREWELLS))


async def pay(visit: Visit, port: int) -> None:
    """Connect, do as `visit` says, and leave.

    Raises:
        TimeoutError: the server kept the client waiting for HANG_SECONDS.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    # The server may have answered and closed before the client does as it planned.
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        try:
            async with asyncio.timeout(HANG_SECONDS):
                if visit.greeting:
                    writer.write(visit.greeting)
                    await reader.readuntil(b"\r\n\r\n")
                writer.write(visit.request[: visit.sends])
                await writer.drain()
                if visit.until is not None:
                    await reader.readuntil(visit.until)
                elif visit.reads:
                    await reader.readexactly(visit.reads)
            await asyncio.sleep(visit.waits_seconds)
            if visit.farewell == "half-close" and writer.can_write_eof():
                writer.write_eof()
        finally:
            if visit.farewell == "reset":
                _reset(writer)
            writer.close()


async def disconnect(port: int, count: int, seed: int) -> None:
    """Pay `count` visits, CLIENTS at a time, every point as often as the others."""
    chance = random.Random(seed)
    visits = iter([visit_at(POINTS[number % len(POINTS)], chance) for number in range(count)])

    async def client() -> None:
        for visit in visits:
            await pay(visit, port)

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client())


async def leave_no_trace(folder: Path, count: int, variables: Mapping[str, object], seed: int = 0) -> Report:
    """Let `count` clients of a new server leave, and compare what it holds with what it held when it was warm."""
    report = Report({"disconnects": count})
    async with ready_server(folder, **variables) as server:
        # Caches and the allocator reach their size first: 10,000 visits more add 4 MiB, the fourth 10,000 none.
        await disconnect(server.port, count, seed + 1)
        before = await settled(server, await footprint(server))
        began = time.monotonic()
        await disconnect(server.port, count, seed)
        report.figures["seconds"] = round(time.monotonic() - began, 1)
        compare(report, before, await settled(server, before))
        await _still_answers(server, report)
    report.expect("Traceback" not in (folder / "log").read_text(), "the log holds a stack trace")
    return report


async def slots_change_hands(folder: Path, count: int, variables: Mapping[str, object]) -> Report:
    """Let a client leave the only slot `count` times while one waits for it, and time that one's first byte."""
    seconds = []
    async with ready_server(folder, **{**variables, "LLMSERVICE_MAX_BATCH_SIZE": 1}) as server:
        for _ in range(count):
            leaving, leaver = await _stream(server, 1500)
            await leaving.readuntil(b"data: ")
            waiting, waiter = await _stream(server, 2)
            await _until_waiting(server)
            leaver.transport.abort()
            left = time.monotonic()
            async with asyncio.timeout(HANG_SECONDS):
                await waiting.readuntil(b"data: ")
            seconds.append(time.monotonic() - left)
            waiter.close()
    report = Report({"slot_free_p50_ms": _ms(quantile(seconds, 0.5)), "slot_free_p99_ms": _ms(quantile(seconds, 0.99))})
    report.expect(
        quantile(seconds, 0.5) <= SLOT_FREE_SECONDS, f"a slot is free after {quantile(seconds, 0.5):.3f} s (median)"
    )
    return report


def _request(chance: random.Random, is_streamed: bool, more: str) -> tuple[bytes, bytes]:
    sampling = {"max_tokens": chance.randrange(1, 60), "stream": is_streamed, "temperature": chance.choice([0, 1])}
    text = "When a client leaves, its slot is free. " * chance.randrange(1, 12)
    routes: list[tuple[str, dict[str, object]]] = [
        ("/v1/completions", {"model": "tiny", "prompt": text}),
        ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": text}]}),
    ]
    path, asked = chance.choice(routes)
    body = json.dumps({**asked, **sampling}).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\n{more}content-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode(), body


def _frames(chance: random.Random) -> tuple[bytes, bytes]:
    """Return the head that asks for a WebSocket, and a frame that asks for a generation."""
    asked = {"type": "generate", "id": "a", "text": "When a client leaves" * chance.randrange(1, 12)}
    frame = json.dumps({**asked, "max_tokens": chance.randrange(1, 60)}).encode()
    size = struct.pack("!BBH", 0x81, 0x80 | 126, len(frame)) if len(frame) > 125 else bytes([0x81, 0x80 | len(frame)])
    head = (
        "GET /ws/generate HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-protocol: llm.v1\r\n\r\n"
    )
    # A mask of zeros changes nothing.
    return head.encode(), size + bytes(4) + frame


def _reset(writer: asyncio.StreamWriter) -> None:
    """Let closing send a reset and drop what is unsent, as the kernel does for a process that was killed."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _stream(server: ServerProcess, max_tokens: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    # A model with random weights soon says that it has ended, and then its slot is free before anybody leaves.
    asked = {"model": "tiny", "prompt": "hello", "max_tokens": max_tokens, "stream": True, "ignore_eos": True}
    body = json.dumps(asked).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = "POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return reader, writer


async def _until_waiting(server: ServerProcess) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while (await server.state())["load"]["waiting"] == 0:  # noqa: ASYNC110 - the line is in another process
            await asyncio.sleep(0.002)


async def _still_answers(server: ServerProcess, report: Report) -> None:
    answer = await server.public.post("/generate", json={"text": "hello", "max_tokens": 3})
    report.expect(answer.status_code == 200, f"afterwards the server answers {answer.status_code}")


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
