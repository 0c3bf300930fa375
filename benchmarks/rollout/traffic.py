"""Clients that ask all the time, in several ways, and what became of each request: answered, failed or cut short."""

from __future__ import annotations

import asyncio
import collections
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

SHORT_CLIENTS = 16
STREAMS = 4
"""Long streams that are open at any time."""
LONGEST_STREAM_SECONDS = 60
TOKENS_PER_SECOND = 50
"""Of the fake engine, for each sequence; its first token comes after 50 ms."""
ANSWER_SECONDS = 120.0
DONE = "data: [DONE]"


@dataclass
class Tally:
    """What has become of the requests so far."""

    requests: int = 0
    streams: int = 0
    longest_stream_seconds: float = 0.0
    failed: collections.Counter[str] = field(default_factory=collections.Counter)
    """Requests without an answer or with one that is no success, by what was wrong."""
    truncated: collections.Counter[str] = field(default_factory=collections.Counter)
    """Answers that began well and were cut short."""


class _Truncated(Exception):  # noqa: N818 - what became of an answer
    """An answer began and did not come to its end."""


@asynccontextmanager
async def traffic(
    url: str, model: str, *, longest_stream_seconds: int = LONGEST_STREAM_SECONDS, seed: int = 0
) -> AsyncIterator[Tally]:
    """Send requests to `url` while the body runs; at its end every request that has begun is answered to its end."""
    tally, is_over = Tally(), asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=None, sock_read=ANSWER_SECONDS)
    # Half of the clients keep their connections, as SDKs do; the others come anew each time, as curl does.
    keeping = aiohttp.ClientSession(url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
    fresh = aiohttp.ClientSession(url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0, force_close=True))
    async with keeping, fresh, asyncio.TaskGroup() as clients:
        for number in range(SHORT_CLIENTS + STREAMS):
            session = (keeping, fresh)[number % 2]
            client = _Client(session, model, random.Random(f"{seed}.{number}"), tally, longest_stream_seconds)
            ask = client.short if number < SHORT_CLIENTS else client.stream
            how = ("kept connection", "new connection")[number % 2]
            clients.create_task(_repeat(ask, f"{ask.__name__}, {how}", tally, is_over))
        try:
            yield tally
        finally:
            is_over.set()


async def _repeat(
    ask: Callable[[], Coroutine[Any, Any, None]], label: str, tally: Tally, is_over: asyncio.Event
) -> None:
    while not is_over.is_set():
        tally.requests += 1
        try:
            await ask()
        except _Truncated as truncated:
            tally.truncated[f"{label}: {truncated}"] += 1
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            tally.failed[f"{label}: {type(error).__name__}: {error}"[:200]] += 1


class _Client:
    def __init__(
        self,
        session: aiohttp.ClientSession,
        model: str,
        chance: random.Random,
        tally: Tally,
        longest_stream_seconds: int,
    ) -> None:
        self._session = session
        self._longest_stream_tokens = longest_stream_seconds * TOKENS_PER_SECOND
        self._model = model
        self._chance = chance
        self._tally = tally

    async def short(self) -> None:
        """Ask for a few tokens, on one of the routes, whole or streamed."""
        tokens = self._chance.randint(1, 4)
        match self._chance.randrange(3):
            case 0:
                await self._whole("/generate", {"text": self._prompt(), "max_tokens": tokens}, tokens)
            case 1:
                await self._whole("/v1/completions", self._completion(tokens), tokens)
            case _:
                await self._streamed(tokens)

    async def stream(self) -> None:
        """Read one long stream."""
        began = time.monotonic()
        await self._streamed(self._chance.randint(TOKENS_PER_SECOND, self._longest_stream_tokens))
        self._tally.streams += 1
        self._tally.longest_stream_seconds = max(self._tally.longest_stream_seconds, time.monotonic() - began)

    async def _whole(self, path: str, body: dict[str, Any], tokens: int) -> None:
        async with self._session.post(path, json=body) as answer:
            await _ensure_success(answer)
            try:
                document = await answer.json()
            except (aiohttp.ClientPayloadError, ValueError) as error:
                raise _Truncated(f"{path}: {error}"[:200]) from error
        _ensure_count(document, tokens)

    async def _streamed(self, tokens: int) -> None:
        body = {**self._completion(tokens), "stream": True, "stream_options": {"include_usage": True}}
        last = ""
        usage: dict[str, Any] = {}
        async with self._session.post("/v1/completions", json=body) as answer:
            await _ensure_success(answer)
            try:
                async for line in answer.content:
                    if text := line.decode().strip():
                        last = text
                        if '"usage":{' in text:
                            usage = json.loads(text.removeprefix("data: "))
            except aiohttp.ClientPayloadError as error:
                raise _Truncated(f"a stream: {error}"[:200]) from error
        if last != DONE:
            raise _Truncated(f"a stream ends with {last[:150]!r}")
        _ensure_count(usage, tokens)

    def _completion(self, tokens: int) -> dict[str, Any]:
        return {"model": self._model, "prompt": self._prompt(), "max_tokens": tokens}

    def _prompt(self) -> str:
        return " ".join(self._chance.choices(("one", "two", "three", "four"), k=self._chance.randint(1, 20)))


async def _ensure_success(answer: aiohttp.ClientResponse) -> None:
    if answer.status != 200:
        raise aiohttp.ClientError(f"{answer.status} {(await answer.text())[:150]}")


def _ensure_count(document: dict[str, Any], tokens: int) -> None:
    found = document.get("usage", {}).get("completion_tokens")
    if found != tokens:
        raise _Truncated(f"{found} tokens of {tokens}")
