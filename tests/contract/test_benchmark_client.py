"""The benchmark's client against a server on loopback."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from benchmarks.load import closed_loop, open_loop, request
from benchmarks.transcript import PeerError

REQUEST = {"prompt": "ba"}
STREAM = b'data: {"text":"x"}\n\ndata: {"usage":{"completion_tokens":3}}\n\n'
ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(STREAM), STREAM)


@dataclass
class Seen:
    port: int = 0
    connections: int = 0
    requests: int = 0
    in_flight: int = 0
    most_in_flight: int = 0


@asynccontextmanager
async def serving(
    answer: bytes, answers: asyncio.Event | None = None, requests_each: int = 1000
) -> AsyncIterator[Seen]:
    """Serve `answer` to every request, once `answers` is set, `requests_each` a connection; tell what was seen."""
    seen = Seen()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            for _ in range(requests_each):
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.partition(b"content-length: ")[2]))
                seen.requests += 1
                seen.in_flight += 1
                seen.most_in_flight = max(seen.most_in_flight, seen.in_flight)
                await (answers.wait() if answers else asyncio.sleep(0))
                seen.in_flight -= 1
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.port = server.sockets[0].getsockname()[1]
    async with server:
        yield seen


def requests(seen: Seen, count: int) -> list[bytes]:
    return [request(seen.port, "/v1/completions", REQUEST)] * count


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is waited for comes over a socket
            await asyncio.sleep(0.001)


async def test_a_closed_loop_keeps_its_concurrency_over_as_many_connections() -> None:
    async with serving(ANSWER) as seen:
        load = await closed_loop(seen.port, requests(seen, 12), 4, window_seconds=10)
    assert (load.tokens, len(load.ttft_seconds)) == (36, 12)
    assert (seen.connections, seen.requests) == (4, 12)
    assert seen.most_in_flight <= 4


async def test_what_is_not_answered_within_the_window_is_given_up() -> None:
    answers = asyncio.Event()
    async with serving(ANSWER, answers) as seen, asyncio.TaskGroup() as group:
        task = group.create_task(closed_loop(seen.port, requests(seen, 2), 2, window_seconds=0.05))
        await eventually(lambda: seen.in_flight == 2)
        answers.set()
        load = await task
    assert 1 <= len(load.ttft_seconds) <= 2


async def test_an_open_loop_sends_without_waiting_for_answers() -> None:
    answers = asyncio.Event()
    async with serving(ANSWER, answers) as seen, asyncio.TaskGroup() as group:
        task = group.create_task(open_loop(seen.port, requests(seen, 5), [0.0] * 5))
        await eventually(lambda: seen.in_flight == 5)
        answers.set()
        load = await task
    assert load.tokens == 15


async def test_an_open_loop_does_not_send_over_a_connection_that_the_server_has_closed() -> None:
    async with serving(ANSWER, requests_each=1) as seen:
        load = await open_loop(seen.port, requests(seen, 3), [0.0, 0.1, 0.2])
    assert load.tokens == 9
    assert seen.connections == 3


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}", id="refused"),
        pytest.param(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n", id="failed"),
    ],
)
async def test_a_server_that_refuses_ends_the_measurement(answer: bytes) -> None:
    async with serving(answer) as seen:
        with pytest.raises(PeerError):
            await closed_loop(seen.port, requests(seen, 2), 2, window_seconds=10)
    # Whether one of the two errors was lost is seen when its task is collected.
    gc.collect()
