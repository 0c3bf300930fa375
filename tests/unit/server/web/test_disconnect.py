"""A client that leaves stops its generation, wherever in the answer it leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from tests.support.model_server import RunningServer, eventually, running_server

SLOT_FREE_SECONDS = 0.2


class LeavingClient:
    """Sends one request to the application and leaves after receiving `messages` ASGI messages."""

    def __init__(self, server: RunningServer, path: str, body: dict[str, Any], messages: int) -> None:
        self._server = server
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        self._requests = [{"type": "http.request", "body": orjson.dumps(body), "more_body": False}]
        self._messages = messages
        self.left = asyncio.Event()
        if not messages:
            self.left.set()

    async def run(self) -> None:
        """Run the request until the application is done with it."""
        await self._server.app(self._scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if self._requests:
            return self._requests.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self._messages -= 1
        if self._messages <= 0:
            self.left.set()


@pytest.mark.parametrize("messages", range(8))
async def test_leaving_a_stream_after_any_message_frees_the_slot_at_once(messages: int) -> None:
    body = {"text": "hello", "max_tokens": 8000, "stream": True}
    async with running_server(fake_tokens_per_second=500.0, max_batch_size=1, max_queue_depth=0) as server:
        client = LeavingClient(server, "/generate", body, messages)
        running = asyncio.create_task(client.run())
        await client.left.wait()
        assert await eventually(lambda: running.done() and server.client.in_flight == 0) < SLOT_FREE_SECONDS
        answer = await server.http.post("/generate", json={"text": "next", "max_tokens": 3})
    assert answer.status_code == 200


async def test_leaving_an_answer_that_is_not_streamed_frees_the_slot() -> None:
    async with running_server(fake_tokens_per_second=100.0) as server:
        client = LeavingClient(server, "/generate", {"text": "hello", "max_tokens": 8000}, messages=1)
        running = asyncio.create_task(client.run())
        await eventually(lambda: server.client.load().running == 1)
        client.left.set()
        assert await eventually(lambda: running.done() and server.client.in_flight == 0) < SLOT_FREE_SECONDS


async def test_leaving_while_waiting_for_a_slot_gives_the_place_back() -> None:
    slow = {"text": "hello", "max_tokens": 8000, "stream": True}
    async with running_server(fake_tokens_per_second=50.0, max_batch_size=1, max_queue_depth=1) as server:
        first = LeavingClient(server, "/generate", slow, messages=10_000)
        second = LeavingClient(server, "/generate", slow, messages=10_000)
        tasks = [asyncio.create_task(client.run()) for client in (first, second)]
        await eventually(lambda: server.client.load().waiting == 1)
        second.left.set()
        assert await eventually(lambda: server.client.in_flight == 1) < SLOT_FREE_SECONDS
        first.left.set()
        await asyncio.gather(*tasks)
