"""WS /ws/generate over a real socket, and the rows W01 to W15 of the catalogue of bad input."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode

from inference_server.management import QuietServer, bind
from inference_server.metrics import Metrics
from inference_server.web.access import Access
from inference_server.web.http_protocol import BoundedHttpProtocol
from inference_server.web.websocket import MAX_GENERATIONS, GenerateSocket
from inference_server.web.websocket_protocol import BoundedWebSocketProtocol
from tests.support.model_server import RunningServer, eventually, running_server
from tests.support.server_process import ServerProcess, eventually_is, ready_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]
LONG = {"type": "generate", "text": "hello", "max_tokens": 8000}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerProcess]:
    """Return one quick server for all tests here; that they share it is part of the test."""
    settings = {"LLMSERVICE_MAX_BATCH_SIZE": 64, "LLMSERVICE_FAKE_TOKENS_PER_SECOND": 200}
    async with ready_server(tmp_path_factory.mktemp("server"), **settings) as ready:
        yield ready


@asynccontextmanager
async def opened(server: ServerProcess, **options: Any) -> AsyncIterator[ClientConnection]:
    """Yield a socket; it takes long frames, so that bounds are the server's."""
    async with connect(_url(server), subprotocols=["llm.v1"], compression=None, **options) as client:  # type: ignore[list-item]
        yield client


async def say(client: ClientConnection, frame: Json) -> None:
    await client.send(json.dumps(frame))


async def hear(client: ClientConnection, seconds: float = 10.0) -> Json:
    async with asyncio.timeout(seconds):
        frame: Json = json.loads(await client.recv())
    return frame


async def hear_until(client: ClientConnection, kind: str) -> list[Json]:
    frames = [await hear(client)]
    while frames[-1]["type"] != kind:
        frames.append(await hear(client))
    return frames


async def close_code(client: ClientConnection, seconds: float = 10.0) -> int | None:
    """Return the code with which the server closes, whatever it says before."""
    async with asyncio.timeout(seconds):
        await client.wait_closed()
    return client.close_code


async def test_a_generation_is_accepted_comes_in_tokens_and_is_done(server: ServerProcess) -> None:
    whole = await server.public.post("/generate", json={"text": "hello", "max_tokens": 40, "temperature": 0})
    async with opened(server) as client:
        assert client.subprotocol == "llm.v1"
        await say(client, {"type": "generate", "id": "a", "text": "hello", "max_tokens": 40, "temperature": 0})
        accepted, *tokens, done = await hear_until(client, "done")
    assert accepted == {"type": "accepted", "id": "a"}
    assert "".join(token["text"] for token in tokens) == whole.json()["generated_text"]
    counts = [token["n"] for token in tokens]
    assert counts == sorted(set(counts))
    assert done == {"type": "done", "id": "a", "n": 40, "finish_reason": "length", "usage": whole.json()["usage"]}


async def test_a_chat_has_the_fields_of_the_chat_route(server: ServerProcess) -> None:
    chat = {
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 20,
        "temperature": 0,
        "stop": "the",
    }
    whole = await server.public.post("/v1/chat/completions", json={"model": "tiny", **chat})
    async with opened(server) as client:
        await say(client, {"type": "generate", "id": "a", **chat})
        _, *tokens, done = await hear_until(client, "done")
    choice = whole.json()["choices"][0]
    assert "".join(token["text"] for token in tokens) == choice["message"]["content"]
    assert done["finish_reason"] == choice["finish_reason"]


async def test_many_generations_share_a_socket_and_each_gets_its_own_text(server: ServerProcess) -> None:
    async with opened(server) as client:
        for number in range(8):
            await say(
                client, {"type": "generate", "id": f"g{number}", "text": f"p{number}", "max_tokens": 15, "seed": 1}
            )
        texts = {f"g{number}": "" for number in range(8)}
        ended = 0
        while ended < 8:
            frame = await hear(client)
            texts[frame["id"]] += frame.get("text", "")
            ended += frame["type"] == "done"
    assert len(set(texts.values())) == 8


async def test_a_cancelled_generation_is_done_at_once(server: ServerProcess) -> None:
    async with opened(server) as client:
        await say(client, {**LONG, "id": "a"})
        await hear_until(client, "token")
        await say(client, {"type": "cancel", "id": "a"})
        done = (await hear_until(client, "done"))[-1]
        await say(client, {**LONG, "id": "b"})
        await say(client, {"type": "cancel", "id": "b"})
        at_once = (await hear_until(client, "done"))[-1]
    assert (done["id"], done["finish_reason"]) == ("a", "cancelled")
    assert done["n"] > 0
    assert (at_once["id"], at_once["finish_reason"], at_once["n"]) == ("b", "cancelled", 0)


async def test_a_ping_frame_is_answered(server: ServerProcess) -> None:
    async with opened(server) as client:
        await say(client, {"type": "ping", "t": 17})
        assert await hear(client) == {"type": "pong", "t": 17}


@pytest.mark.parametrize(
    ("frame", "code", "param"),
    [
        pytest.param({"type": "cancel", "id": "nobody"}, "unknown_id", "id", id="W12 cancel for an unknown id"),
        pytest.param({"type": "generate", "text": "hi"}, "invalid_value", "id", id="no id"),
        pytest.param(
            {"type": "generate", "id": "a\nb", "text": "hi"}, "invalid_value", "id", id="an id with a line break"
        ),
        pytest.param({"type": "resume", "id": "a"}, "unsupported_value", "type", id="a frame of the gateway"),
        pytest.param({"id": "a"}, "unsupported_value", "type", id="no type"),
        pytest.param({"type": "generate", "id": "a"}, "missing_required_parameter", "text", id="no text"),
        pytest.param({"type": "generate", "id": "a", "text": "x", "n": 2}, "unsupported_parameter", "n", id="n"),
        pytest.param(
            {"type": "generate", "id": "a", "text": "x", "stream": True}, "unsupported_parameter", "stream", id="stream"
        ),
        pytest.param(
            {"type": "generate", "id": "a", "text": "x", "max_tokens": 0}, "invalid_value", "max_tokens", id="H25"
        ),
        pytest.param(
            {"type": "generate", "id": "a", "text": "x", "model": "gpt-9"}, "model_not_found", "model", id="model"
        ),
        pytest.param(
            {"type": "generate", "id": "a", "text": "x" * 9000}, "context_length_exceeded", "text", id="too long"
        ),
    ],
)
async def test_a_wrong_frame_is_a_typed_error_and_the_socket_stays(
    server: ServerProcess, frame: Json, code: str, param: str
) -> None:
    async with opened(server) as client:
        await say(client, frame)
        answer = await hear(client)
        await say(client, {"type": "ping"})
        assert await hear(client) == {"type": "pong"}
    assert answer["type"] == "error"
    assert (answer["error"]["code"], answer["error"]["param"]) == (code, param)


async def test_w01_without_a_key_the_upgrade_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "team-a").write_text("sk-good")
    async with ready_server(tmp_path, LLMSERVICE_API_KEYS_DIR=tmp_path / "keys") as server:
        for headers in ({}, {"Authorization": "Bearer sk-wrong"}):
            with pytest.raises(InvalidStatus) as refused:
                async with opened(server, additional_headers=headers):
                    pass
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body)["error"]["code"] == "invalid_api_key"
        async with opened(server, additional_headers={"Authorization": "Bearer sk-good"}) as client:
            await say(client, {"type": "ping"})
            assert await hear(client) == {"type": "pong"}


async def test_w02_a_page_of_another_site_is_refused_and_one_of_ours_is_not(server: ServerProcess) -> None:
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{server.port}.evil.example"):
        with pytest.raises(InvalidStatus) as refused:
            async with opened(server, origin=origin):
                pass
        assert refused.value.response.status_code == 403
    async with opened(server, origin=f"http://127.0.0.1:{server.port}"):
        pass


async def test_another_path_is_a_404_before_the_upgrade(server: ServerProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(_url(server, "/v1/completions")):
            pass
    assert refused.value.response.status_code == 404


async def test_w03_three_frames_that_are_no_json_close_the_socket(server: ServerProcess) -> None:
    async with opened(server) as client:
        for text in ("hello", "[1]", "{"):
            await client.send(text)
            assert (await hear(client))["error"]["code"] == "invalid_json"
        assert await close_code(client) == 1003


async def test_w04_a_binary_frame_closes_the_socket(server: ServerProcess) -> None:
    async with opened(server) as client:
        await client.send(b"\x00")
        assert await close_code(client) == 1003


async def test_w05_a_frame_over_a_mebibyte_is_refused_by_its_length(server: ServerProcess) -> None:
    async with opened(server) as client:
        # The head of a frame of 64 MiB; none of its body need come.
        client.transport.write(b"\x81\xff" + struct.pack(">Q", 64 * 2**20) + b"\x00" * 4)
        assert await close_code(client) == 1009


async def test_w06_a_message_of_very_many_fragments_is_refused(server: ServerProcess) -> None:
    async with opened(server) as client:
        piece = Frame(Opcode.CONT, b" ", fin=False).serialize(mask=True)
        client.transport.write(Frame(Opcode.TEXT, b"{", fin=False).serialize(mask=True) + piece * 100_000)
        assert await close_code(client) == 1009


@pytest.mark.parametrize(
    "raw", [pytest.param(b"\x81\x02{}", id="unmasked"), pytest.param(b"\xf1\x82\x00\x00\x00\x00{}", id="reserved bits")]
)
async def test_w07_a_frame_against_the_protocol_closes_the_socket(server: ServerProcess, raw: bytes) -> None:
    async with opened(server) as client:
        client.transport.write(raw)
        assert await close_code(client) == 1002


async def test_w08_a_flood_of_pings_closes_the_socket_and_a_few_do_not(server: ServerProcess) -> None:
    async with opened(server) as client:
        for _ in range(20):
            await (await client.ping())
        client.transport.write(Frame(Opcode.PING, b"").serialize(mask=True) * 1000)
        assert await close_code(client) == 1008


async def test_w11_one_generation_too_many_is_a_typed_error(server: ServerProcess) -> None:
    async with opened(server) as client:
        for number in range(MAX_GENERATIONS + 1):
            await say(client, {**LONG, "id": f"g{number}"})
        error = (await hear_until(client, "error"))[-1]
        assert (error["id"], error["error"]["code"]) == (f"g{MAX_GENERATIONS}", "too_many_generations")
        await say(client, {"type": "ping"})
        await hear_until(client, "pong")
    await eventually_is(lambda: _is_idle(server))


async def test_w13_closing_stops_the_generation_within_100_ms(server: ServerProcess) -> None:
    await eventually_is(lambda: _is_idle(server))
    waits = []
    for how in ("close", "abort") * 3:
        async with opened(server) as client:
            await say(client, {**LONG, "id": "a"})
            await hear_until(client, "token")
            left = time.monotonic()
            if how == "close":
                await client.close()
            else:
                client.transport.abort()
            await eventually_is(lambda: _is_idle(server))
            waits.append(time.monotonic() - left)
    assert sorted(waits)[2] < 0.1


async def test_w15_text_that_is_not_utf_8_closes_the_socket(server: ServerProcess) -> None:
    async with opened(server) as client:
        client.transport.write(b"\x81\x82\x00\x00\x00\x00\xff\xfe")
        assert await close_code(client) == 1007


async def test_a_generation_in_flight_is_finished_when_the_server_stops_and_then_the_socket_closes(
    tmp_path: Path,
) -> None:
    async with ready_server(tmp_path, LLMSERVICE_FAKE_TOKENS_PER_SECOND=50) as server, opened(server) as client:
        await say(client, {**LONG, "id": "a", "max_tokens": 60})
        await hear_until(client, "token")
        server.terminate()
        done = (await hear_until(client, "done"))[-1]
        answered = time.monotonic()
        assert await close_code(client) == 1001
        assert await server.exit_code() == 0
    assert (done["n"], done["finish_reason"]) == (60, "length")
    assert time.monotonic() - answered < 3


async def test_the_death_of_the_engine_is_a_typed_error_for_each_generation(tmp_path: Path) -> None:
    async with ready_server(tmp_path, LLMSERVICE_FAKE_TOKENS_PER_SECOND=50) as server, opened(server) as client:
        for name in ("a", "b"):
            await say(client, {**LONG, "id": name})
        await hear_until(client, "token")
        os.kill(server.engine_pid(), 9)
        first = (await hear_until(client, "error"))[-1]
        second = (await hear_until(client, "error"))[-1]
        assert await server.exit_code() == 70
    assert {first["id"], second["id"]} == {"a", "b"}
    assert {first["error"]["code"], second["error"]["code"]} == {"worker_lost"}


class Impatient(BoundedWebSocketProtocol):
    """The protocol as it is, but for the time it waits."""

    unread_deadline_seconds = 0.3


@asynccontextmanager
async def public_port(
    server: RunningServer, idle_seconds: float = 60.0, ping_seconds: float = 20.0
) -> AsyncIterator[socket.socket]:
    """Yield the listening socket of a server in this process, whose patience is a test's."""
    listener = bind("127.0.0.1", 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    app = Access(GenerateSocket(server.model_server, Metrics(), idle_seconds), server.state, Metrics())
    config = uvicorn.Config(
        app,
        http=BoundedHttpProtocol,
        ws=Impatient,
        ws_ping_interval=ping_seconds,
        ws_ping_timeout=ping_seconds,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
    )
    public = QuietServer(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(public.serve(sockets=[listener]))
        try:
            yield listener
        finally:
            public.should_exit = True


async def test_w09_a_socket_open_for_nothing_is_closed() -> None:
    async with running_server() as server, public_port(server, idle_seconds=0.2) as listener:
        port = listener.getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/ws/generate") as client:
            assert await close_code(client) == 1001


async def test_w10_a_peer_that_does_not_answer_pings_loses_its_slot() -> None:
    async with (
        running_server(fake_tokens_per_second=5.0) as server,
        public_port(server, ping_seconds=0.2) as listener,
    ):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(_handshake())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_frame({**LONG, "id": "a"}))
        await eventually(lambda: server.client.in_flight == 1)
        await eventually(lambda: server.client.in_flight == 0)
        rest = await reader.read()
        writer.close()
    assert struct.pack(">H", 1011) + b"keepalive ping timeout" in rest


async def test_w14_a_reader_slower_than_the_generation_is_closed_and_its_slot_is_free() -> None:
    async with running_server(max_model_len=600_000) as server, public_port(server) as listener:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        with client:
            client.sendall(_handshake())
            await asyncio.to_thread(client.recv, 4096)
            client.sendall(_frame({**LONG, "id": "a", "max_tokens": 500_000}))
            await eventually(lambda: server.client.in_flight == 1)
            await eventually(lambda: server.client.in_flight == 0)
            # What was buffered can still be read, and the reason after it.
            reader, writer = await asyncio.open_connection(sock=client)
            rest = await reader.read()
            writer.close()
    assert struct.pack(">H", 1013) in rest[-60:]


async def test_connections_that_come_and_go_leave_nothing_open() -> None:
    async with running_server() as server, public_port(server) as listener:
        port = listener.getsockname()[1]
        for _ in range(20):
            async with connect(f"ws://127.0.0.1:{port}/ws/generate") as client:
                await say(client, {**LONG, "id": "a"})
                await hear_until(client, "accepted")
        await eventually(lambda: server.client.in_flight == 0)


def _handshake() -> bytes:
    head = b"GET /ws/generate HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    return head + b"sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"


def _frame(content: Json) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(content).encode()).serialize(mask=True)


def _url(server: ServerProcess, path: str = "/ws/generate") -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


async def _is_idle(server: ServerProcess) -> bool:
    load = (await server.state())["load"]
    return bool(load["running"] + load["waiting"] == 0)
