"""The ways a stream can end, as OpenAI's clients take them: why ours ends every failed stream with `data: {"error"…`.

The server here is a script. That ours never ends in one of the silent ways is what the other files of this folder test.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from tests.conformance.node_client import node_client

CHUNK = {"id": "1", "object": "text_completion", "created": 1, "model": "tiny"}
TEXT = {**CHUNK, "choices": [{"index": 0, "text": "hello", "logprobs": None, "finish_reason": None}]}
ERROR = {"message": "broken", "type": "server_error", "param": None, "code": "worker_lost"}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"

ENDINGS = [
    pytest.param(b"data: [DONE]\n\n", True, None, None, id="done"),
    pytest.param(b"", True, None, None, id="a clean end without done passes for success"),
    pytest.param(
        b"event: error\ndata: " + json.dumps(ERROR).encode() + b"\n\n",
        True,
        None,
        None,
        id="an error event without error",
    ),
    pytest.param(
        b"data: " + json.dumps({"error": ERROR}).encode() + b"\n\n", True, "APIError", "APIError", id="an error as data"
    ),
    pytest.param(b"", False, "APIConnectionError", "TypeError", id="a cut connection"),
]


@pytest.mark.parametrize(("last", "is_clean", "python_error", "node_error"), ENDINGS)
async def test_what_the_clients_make_of_the_end_of_a_stream(
    last: bytes, is_clean: bool, python_error: str | None, node_error: str | None
) -> None:
    async with _scripted(last, is_clean) as port:
        text, error = await _python(port)
        node: dict[str, Any] = await node_client(port, "stream")
    assert (text, error) == ("hello", python_error)
    assert (node["text"], node["error"] and node["error"]["type"]) == ("hello", node_error)


async def _python(port: int) -> tuple[str, str | None]:
    text = ""
    base_url = f"http://127.0.0.1:{port}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key="unused", max_retries=0) as client:
        try:
            async for chunk in await client.completions.create(model="tiny", prompt="a", stream=True):
                text += chunk.choices[0].text if chunk.choices else ""
        except openai.APIError as error:
            return text, type(error).__name__
    return text, None


@asynccontextmanager
async def _scripted(last: bytes, is_clean: bool) -> AsyncIterator[int]:
    """Yield the port of a server that streams one chunk, then `last`, and then ends the answer or cuts it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        frames = b"data: " + json.dumps(TEXT).encode() + b"\n\n" + last
        writer.write(HEAD + b"%x\r\n%s\r\n" % (len(frames), frames) + (END if is_clean else b""))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
