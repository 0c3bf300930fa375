"""OpenAI's own client for Node against our server."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.conformance.node_client import node_client
from tests.support.server_process import ServerProcess, eventually_is, ready_server

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_model_is_listed_and_another_is_not_found(server: ServerProcess) -> None:
    got = await node_client(server.port, "models")
    missing = {"type": "NotFoundError", "status": 404, "code": "model_not_found", "param": "model"}
    assert got == {"listed": ["tiny"], "missing": missing}


async def test_a_streamed_completion_is_the_whole_one_in_pieces(server: ServerProcess) -> None:
    got = await node_client(server.port, "completion")
    expected = {"text": got["whole"], "finish_reasons": [got["finish_reason"]], "usage": got["usage"], "error": None}
    assert got["streamed"] == expected
    assert got["usage"]["completion_tokens"] > 0


async def test_a_streamed_chat_is_the_whole_one_in_pieces(server: ServerProcess) -> None:
    got = await node_client(server.port, "chat")
    assert got["whole"] == got["streamed"]["text"] == got["final"]


async def test_wrong_fields_are_errors_that_name_them(server: ServerProcess) -> None:
    got = await node_client(server.port, "errors")
    bad = {"type": "BadRequestError", "status": 400}
    assert got == {
        "temperature": {**bad, "code": "invalid_value", "param": "temperature"},
        "tools": {**bad, "code": "unsupported_parameter", "param": "tools"},
        "length": {**bad, "code": "context_length_exceeded", "param": "max_tokens"},
        "model": {"type": "NotFoundError", "status": 404, "code": "model_not_found", "param": "model"},
    }


@pytest.mark.parametrize("scenario", ["leaves", "times out"])
async def test_a_client_that_leaves_frees_its_slot(server: ServerProcess, scenario: str) -> None:
    got = await node_client(server.port, scenario)
    assert got == {"has_left": True} or got["type"] == "APIConnectionTimeoutError"

    async def is_idle() -> bool:
        load = (await server.state())["load"]
        return bool(load["running"] + load["waiting"] == 0)

    await eventually_is(is_idle)


async def test_a_sequence_that_fails_in_mid_stream_throws(tmp_path: Path) -> None:
    async with ready_server(tmp_path, LLMSERVICE_FAKE_FAULT="nan") as server:
        got = await node_client(server.port, "stream")
    assert got["text"]
    assert (got["error"]["type"], got["error"]["code"]) == ("APIError", "non_finite_logits")


@pytest.mark.parametrize("who", ["engine", "server"])
async def test_a_killed_process_throws_in_the_stream(tmp_path: Path, who: str) -> None:
    async with ready_server(tmp_path, LLMSERVICE_FAKE_TOKENS_PER_SECOND=50) as server:
        asking = asyncio.create_task(node_client(server.port, "stream"))
        await eventually_is(lambda: _is_running(server))
        os.kill(server.engine_pid() if who == "engine" else server.process.pid, signal.SIGKILL)
        error = (await asking)["error"]
    if who == "engine":
        assert (error["type"], error["code"]) == ("APIError", "worker_lost")
    else:
        assert error is not None


async def _is_running(server: ServerProcess) -> bool:
    return bool((await server.state())["load"]["running"] == 1)
