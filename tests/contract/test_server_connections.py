"""What arrives at the socket: leaving clients, heads too large or too slow, and keys that change."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.server_process import ServerProcess, eventually_is, ready_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUEST = json.dumps({"text": "hello", "max_tokens": 5, "stream": True, "temperature": 0}).encode()
HEAD = b"POST /generate HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n"


def http(body: bytes = REQUEST, more: bytes = b"connection: close\r\n") -> bytes:
    """Return a request on the wire."""
    return HEAD % (len(body), more) + body


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerProcess]:
    """Return one quick server for all tests here; that they share it is part of the test."""
    async with ready_server(tmp_path_factory.mktemp("server"), LLMSERVICE_MAX_BATCH_SIZE=16) as ready:
        yield ready


async def test_h40_a_client_may_leave_at_every_byte_of_a_stream_and_nothing_leaks(server: ServerProcess) -> None:
    whole = await server.send_raw(http())
    assert whole.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    before = await _open_descriptors(server)
    limit = asyncio.Semaphore(16)

    async def leave_after(count: int) -> None:
        async with limit:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(http())
            # How the tokens share frames varies, and with it the length: the last clients may see the whole answer.
            with contextlib.suppress(asyncio.IncompleteReadError):
                await reader.readexactly(count)
            writer.transport.abort()

    async with asyncio.TaskGroup() as clients:
        for count in range(len(whole)):
            clients.create_task(leave_after(count))
    await _until_idle(server)
    await eventually_is(lambda: _no_more_descriptors(server, before))


async def test_a_slot_is_free_within_200_ms_of_the_client_leaving(server: ServerProcess) -> None:
    body = json.dumps({"text": "hello", "max_tokens": 8000, "stream": True}).encode()
    waits = []
    for _ in range(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(http(body))
        await reader.readuntil(b"data: ")
        writer.transport.abort()
        left = time.monotonic()
        await _until_idle(server)
        waits.append(time.monotonic() - left)
    assert sorted(waits)[2] < 0.2


async def test_h12_a_head_over_32_kib_is_a_431(server: ServerProcess) -> None:
    answer = await server.send_raw(http(more=b"x-large: " + b"x" * 2**20 + b"\r\n"))
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"code":"headers_too_large"' in answer


async def test_h17_a_key_of_a_mebibyte_is_a_wrong_key(server: ServerProcess) -> None:
    answer = await server.send_raw(http(more=b"authorization: Bearer " + b"x" * 2**20 + b"\r\n"))
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_a_head_of_31_kib_is_served(server: ServerProcess) -> None:
    answer = await server.send_raw(http(more=b"connection: close\r\nx-large: " + b"x" * 31_000 + b"\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_h08_a_body_over_the_cap_is_a_413_and_the_answer_arrives(server: ServerProcess) -> None:
    answer = await server.send_raw(http(b"x" * (8 * 2**20), more=b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: a\r\nbroken header\r\n\r\n", id="header without colon"),
        pytest.param(
            b"POST /generate HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
            id="H10 both lengths",
        ),
    ],
)
async def test_bytes_that_are_no_request_are_a_400(server: ServerProcess, raw: bytes) -> None:
    answer = await server.send_raw(raw)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"type":"invalid_request_error"' in answer
    request_id = re.search(rb"\r\nx-request-id: (\w+)\r\n", answer)
    assert request_id is not None
    assert request_id[1].decode() in (server.termination_log.parent / "log").read_text()


async def test_h09_bytes_beyond_the_length_are_a_400(server: ServerProcess) -> None:
    answer = await server.send_raw(http(REQUEST, more=b"") + b"surplus\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_h11_a_body_in_very_many_chunks_is_a_413(server: ServerProcess) -> None:
    head = b"POST /generate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = await server.send_raw(head + b"1\r\n \r\n" * 500_000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"request_too_large"' in answer


async def test_h13_ten_thousand_headers_are_a_431(server: ServerProcess) -> None:
    assert (await server.send_raw(http(more=b"a: b\r\n" * 10_000))).startswith(b"HTTP/1.1 431 ")


async def test_h47_http_1_0_and_an_upgrade_to_http_2_are_served_as_http_1(server: ServerProcess) -> None:
    plain = http(REQUEST.replace(b"true", b"false"), more=b"").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    old = await server.send_raw(plain)
    assert old.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in old
    # Without chunks there is no telling a stream that ended from one that broke.
    stream = await server.send_raw(http(more=b"").replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    assert stream.startswith(b"HTTP/1.1 400 ")
    upgrade = b"connection: upgrade, close\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
    assert (await server.send_raw(http(more=upgrade))).startswith(b"HTTP/1.1 ")


async def test_h15_a_head_that_does_not_come_is_closed_at_its_deadline(server: ServerProcess) -> None:
    began = time.monotonic()
    silence, half = await asyncio.gather(
        server.send_raw(b"", seconds=20), server.send_raw(b"POST /generate HTTP/1.1\r\nhost: ", seconds=20)
    )
    assert 9 < time.monotonic() - began < 14
    assert silence == b""
    assert half.startswith(b"HTTP/1.1 408 ")


async def test_pipelined_requests_are_answered_in_order(server: ServerProcess) -> None:
    first = json.dumps({"text": "a", "max_tokens": 3}).encode()
    second = json.dumps({"text": "b", "max_tokens": 4}).encode()
    answer = await server.send_raw(http(first, more=b"") + http(second))
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert answer.index(b'"completion_tokens":3') < answer.index(b'"completion_tokens":4')


async def test_f56_a_changed_secret_is_in_force_without_a_restart(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "team-a").write_text("sk-old")
    async with ready_server(tmp_path, LLMSERVICE_API_KEYS_DIR=keys) as server:

        async def status(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            return (await server.public.get("/v1/models", headers=headers)).status_code

        assert (await status("sk-old"), await status("sk-new")) == (200, 401)
        (keys / "team-a").write_text("sk-new")
        await eventually_is(lambda: _is(200, status("sk-new")), seconds=20)
        assert await status("sk-old") == 401


async def _is(expected: int, answer: Awaitable[int]) -> bool:
    return await answer == expected


async def _until_idle(server: ServerProcess) -> None:
    async def is_idle() -> bool:
        load = (await server.state())["load"]
        return bool(load["running"] + load["waiting"] == 0)

    await eventually_is(is_idle)


async def _no_more_descriptors(server: ServerProcess, before: int) -> bool:
    return await _open_descriptors(server) <= before


async def _open_descriptors(server: ServerProcess) -> int:
    # The clients of the test keep one connection each; what counts is that the number does not grow.
    await server.state()
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))  # noqa: PTH208
