"""How a server process ends: drain, second signal, time limits, and the death or hang of its engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.support.model_server import events_of, eventually
from tests.support.server_process import ServerProcess, ready_server, server_process, until_phase

LONG = {"model": "tiny", "prompt": "hello", "max_tokens": 8000, "stream": True}


async def test_a_stream_in_flight_is_finished_and_then_the_server_goes(tmp_path: Path) -> None:
    async with ready_server(tmp_path, LLMSERVICE_FAKE_TOKENS_PER_SECOND=50) as server:
        async with server.public.stream("POST", "/v1/completions", json={**LONG, "max_tokens": 75}) as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            server.terminate()
            await until_phase(server, "Draining")
            assert (await server.management.get("/readyz")).status_code == 503
            assert (await server.management.get("/livez")).status_code == 200
            rest = [line async for line in lines]
        ended = time.monotonic()
        assert await server.exit_code() == 0
        assert time.monotonic() - ended < 3
    assert [line for line in rest if line][-1] == "data: [DONE]"
    assert not server.termination_log.exists()


async def test_requests_are_answered_during_the_endpoint_grace_and_told_to_reconnect(tmp_path: Path) -> None:
    async with ready_server(tmp_path, LLMSERVICE_ENDPOINT_GRACE_SECONDS=3) as server:
        began = time.monotonic()
        server.terminate()
        await until_phase(server, "Draining")
        answer = await _ask_anew(server)
        assert await server.exit_code() == 0
        took = time.monotonic() - began
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"
    assert 3 <= took < 7


async def test_a_load_balancer_that_learns_late_still_finds_the_port_open(tmp_path: Path) -> None:
    grace, late = 1.0, 3.0
    async with ready_server(tmp_path, LLMSERVICE_ENDPOINT_GRACE_SECONDS=1) as server:
        server.terminate()
        began = time.monotonic()
        await until_phase(server, "Draining")
        while time.monotonic() - began < late:
            assert (await _ask_anew(server)).status_code == 200
            await asyncio.sleep(grace / 4)
        last = time.monotonic()
        assert await server.exit_code() == 0
    assert time.monotonic() - last < 2 * grace


async def test_clients_that_never_stop_coming_are_answered_for_half_of_the_drain(tmp_path: Path) -> None:
    async with ready_server(
        tmp_path, LLMSERVICE_ENDPOINT_GRACE_SECONDS=1, LLMSERVICE_DRAIN_TIMEOUT_SECONDS=6
    ) as server:
        server.terminate()
        began = time.monotonic()
        await until_phase(server, "Draining")
        refused = await _refused(server)
        assert await server.exit_code() == 0
    assert 3 <= refused - began < 5


async def _refused(server: ServerProcess) -> float:
    """Ask again and again; return when no connection is had any more."""
    while True:
        try:
            assert (await _ask_anew(server)).status_code == 200
        except httpx.ConnectError:
            return time.monotonic()


async def _ask_anew(server: ServerProcess) -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.public.base_url) as newcomer:
        return await newcomer.post("/generate", json={"text": "hello", "max_tokens": 1})


async def test_a_client_that_was_not_told_to_reconnect_is_answered_on_its_connection_after_the_grace(
    tmp_path: Path,
) -> None:
    async with ready_server(
        tmp_path, LLMSERVICE_ENDPOINT_GRACE_SECONDS=1, LLMSERVICE_FAKE_TOKENS_PER_SECOND=50
    ) as server:
        url = server.public.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(_post("/v1/completions", {**LONG, "max_tokens": 100}))
        head = await reader.readuntil(b"\r\n\r\n")
        server.terminate()
        await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        ended = time.monotonic()
        writer.write(_post("/generate", {"text": "hello", "max_tokens": 3}))
        answer = await reader.read()
        assert await server.exit_code() == 0
        assert time.monotonic() - ended < 2
        writer.close()
    assert b"connection: close" not in head.lower()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer.lower()


def _post(path: str, body: dict[str, object]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


@pytest.mark.parametrize(
    "max_tokens",
    [pytest.param(20, id="answers end within the grace"), pytest.param(150, id="answers outlast the grace")],
)
async def test_under_load_every_answer_is_complete_and_the_exit_follows_within_a_second(
    tmp_path: Path, max_tokens: int
) -> None:
    grace = 2
    async with ready_server(
        tmp_path,
        LLMSERVICE_FAKE_TOKENS_PER_SECOND=50,
        LLMSERVICE_ENDPOINT_GRACE_SECONDS=grace,
        LLMSERVICE_MAX_BATCH_SIZE=16,
    ) as server:
        all_begun = asyncio.Barrier(9)
        streams = [asyncio.create_task(_whole_stream(server, all_begun, max_tokens)) for _ in range(8)]
        wholes = [
            asyncio.create_task(server.public.post("/generate", json={"text": "hello", "max_tokens": max_tokens}))
            for _ in range(8)
        ]
        await all_begun.wait()
        server.terminate()
        began = time.monotonic()
        answers = await asyncio.gather(*streams)
        assert [answer.status_code for answer in await asyncio.gather(*wholes)] == [200] * 8
        answered = time.monotonic()
        assert await server.exit_code() == 0
        ended = time.monotonic()
    assert all(events_of(answer)[-1] == "[DONE]" for answer in answers)
    assert ended - max(answered, began + grace) < 1


@pytest.mark.parametrize("how", ["drain timeout", "second signal"])
async def test_what_outlives_the_drain_ends_with_a_typed_error(tmp_path: Path, how: str) -> None:
    limit = 1 if how == "drain timeout" else 600
    async with ready_server(
        tmp_path, LLMSERVICE_FAKE_TOKENS_PER_SECOND=20, LLMSERVICE_DRAIN_TIMEOUT_SECONDS=limit
    ) as server:
        begun = asyncio.Barrier(2)
        stream = asyncio.create_task(_whole_stream(server, begun))
        await begun.wait()
        server.terminate()
        await until_phase(server, "Draining")
        if how == "second signal":
            server.terminate()
        answer = await stream
        assert await server.exit_code() == 0
    assert json.loads(events_of(answer)[-1])["error"]["code"] == "stream_interrupted"
    assert "[DONE]" not in answer


async def test_a_server_that_never_became_ready_goes_at_once(tmp_path: Path) -> None:
    async with server_process(
        tmp_path, LLMSERVICE_FAKE_LOAD_SECONDS=600, LLMSERVICE_ENDPOINT_GRACE_SECONDS=60
    ) as server:
        await until_phase(server, "Loading")
        server.terminate()
        assert await server.exit_code(seconds=5) == 0


async def test_a_killed_engine_ends_every_stream_with_a_typed_error_and_the_process_with_70(tmp_path: Path) -> None:
    async with ready_server(tmp_path, LLMSERVICE_FAKE_TOKENS_PER_SECOND=50) as server:
        all_begun = asyncio.Barrier(4)
        streams = [asyncio.create_task(_whole_stream(server, all_begun)) for _ in range(3)]
        await all_begun.wait()
        os.kill(server.engine_pid(), signal.SIGKILL)
        killed = time.monotonic()
        answers = await asyncio.gather(*streams)
        assert time.monotonic() - killed < 2
        assert await server.exit_code() == 70
    for answer in answers:
        assert json.loads(events_of(answer)[-1])["error"]["code"] == "worker_lost"
        assert "[DONE]" not in answer
    assert server.failure() == {
        "reason": "EngineFailed",
        "message": "the engine process ended: killed by signal 9",
    }


async def test_a_hung_engine_is_found_and_treated_like_a_dead_one(tmp_path: Path) -> None:
    async with ready_server(tmp_path, LLMSERVICE_FAKE_FAULT="hang") as server:
        answer = await server.public.post("/v1/completions", json=LONG)
        assert await server.exit_code() == 70
    assert json.loads(events_of(answer.text)[-1])["error"]["code"] == "worker_lost"
    assert server.failure()["message"] == "the engine has not finished a step within 2 s"


async def test_an_engine_that_kills_itself_is_reported_alike(tmp_path: Path) -> None:
    async with ready_server(tmp_path, LLMSERVICE_FAKE_FAULT="death", LLMSERVICE_FAKE_FAULT_AFTER=1) as server:
        first = await server.public.post("/generate", json={"text": "hello", "max_tokens": 5})
        second = await server.public.post("/generate", json={"text": "hello", "max_tokens": 50})
        assert await server.exit_code() == 70
    assert (first.status_code, second.status_code) == (200, 503)


async def test_the_engine_process_goes_when_the_web_process_is_killed(tmp_path: Path) -> None:
    async with ready_server(tmp_path) as server:
        engine = server.engine_pid()
        server.process.kill()
        await server.process.wait()
        await eventually(lambda: not _is_running(engine))


async def _whole_stream(server: ServerProcess, all_begun: asyncio.Barrier, max_tokens: int = 8000) -> str:
    """Return all that comes of a long stream, after its first piece and those of the others have come."""
    async with server.public.stream("POST", "/v1/completions", json={**LONG, "max_tokens": max_tokens}) as stream:
        pieces = stream.aiter_text()
        text = await anext(pieces)
        await all_begun.wait()
        return text + "".join([piece async for piece in pieces])


def _is_running(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
