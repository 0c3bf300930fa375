"""Ten times as many requests as the server can answer: it answers as many as before, and refuses the rest at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.soak.footprint import anonymous_bytes
from tests.soak.report import Report, quantile
from tests.support.server_process import ServerProcess, ready_server

SLOTS = 16
QUEUE = 16
TOKENS = range(15, 36)
"""Completions of different lengths: with one length the slots finish together, and a window counts whole batches."""
TOKENS_PER_SECOND = 50
CAPACITY_PER_SECOND = SLOTS * TOKENS_PER_SECOND / (sum(TOKENS) / len(TOKENS))
TIMES = 10
SERVER = {
    "LLMSERVICE_MAX_BATCH_SIZE": SLOTS,
    "LLMSERVICE_MAX_QUEUE_DEPTH": QUEUE,
    "LLMSERVICE_FAKE_TOKENS_PER_SECOND": TOKENS_PER_SECOND,
    "LLMSERVICE_FAKE_BYTES_PER_TOKEN": 1000,
}


@dataclass(frozen=True)
class Bounds:
    """How much overload may cost: of the peak's goodput, until a refusal is there, and of memory."""

    goodput_share: float = 0.95
    refusal_p99_seconds: float = 0.05
    memory_growth: float = 0.05


@dataclass
class Outcome:
    """What the answers of one phase were; `refusal_seconds` is from sending to the whole answer."""

    finished_at: list[float] = field(default_factory=list)
    refusal_seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def goodput(self, began: float, ended: float) -> float:
        """Return how many requests a second were finished between two times of CLOCK_MONOTONIC."""
        return sum(began <= at < ended for at in self.finished_at) / (ended - began)


async def ten_times_saturation(
    folder: Path, seconds: float, peak_seconds: float, bounds: Bounds, **variables: object
) -> Report:
    """Measure the peak with as many clients as slots and half the line, then offer TIMES as much for `seconds`."""
    async with ready_server(folder, **{**SERVER, **variables}) as server, _session(server) as session:
        peak, _ = await _goodput(_closed_loop, session, peak_seconds)
        before = _memory(server)
        goodput, overload = await _goodput(_open_loop, session, seconds)
        growth = [now / was - 1 for was, now in zip(before, _memory(server), strict=True)]
        await _still_answers(server, overload)
    report = Report(
        {
            "peak_per_second": round(peak, 2),
            "goodput_per_second": round(goodput, 2),
            "goodput_share": round(goodput / peak, 4),
            "refused": len(overload.refusal_seconds),
            "refusal_p99_ms": round(quantile(overload.refusal_seconds or [0.0], 0.99) * 1000, 1),
            "web_memory_growth": round(growth[0], 4),
            "engine_memory_growth": round(growth[1], 4),
        }
    )
    report.findings += overload.wrong[:5]
    report.expect(goodput >= bounds.goodput_share * peak, f"goodput fell from {peak:.1f} to {goodput:.1f} a second")
    p99 = report.figures["refusal_p99_ms"] / 1000
    report.expect(bool(overload.refusal_seconds), "nothing was refused")
    report.expect(p99 <= bounds.refusal_p99_seconds, f"a refusal takes {p99:.3f} s (p99)")
    report.expect(max(growth) <= bounds.memory_growth, f"memory grew by {max(growth):.1%}")
    report.expect("Traceback" not in (folder / "log").read_text(), "the log holds a stack trace")
    return report


async def _goodput(
    load: Callable[[aiohttp.ClientSession, float, Outcome], Awaitable[None]],
    session: aiohttp.ClientSession,
    seconds: float,
) -> tuple[float, Outcome]:
    """Return what was finished a second once the line had filled, and all that came."""
    outcome = Outcome()
    began = time.monotonic()
    await load(session, seconds, outcome)
    return outcome.goodput(began + max(TOKENS) / TOKENS_PER_SECOND, began + seconds), outcome


async def _closed_loop(session: aiohttp.ClientSession, seconds: float, outcome: Outcome) -> None:
    ends = time.monotonic() + seconds

    async def client(chance: random.Random) -> None:
        while time.monotonic() < ends:
            await _ask(session, _body(chance), outcome)

    async with asyncio.TaskGroup() as clients:
        for number in range(SLOTS + QUEUE // 2):
            clients.create_task(client(random.Random(number)))


async def _open_loop(session: aiohttp.ClientSession, seconds: float, outcome: Outcome) -> None:
    """Send at a fixed pace, whatever becomes of what was sent before: a client that waits would lighten the load."""
    began = time.monotonic()
    chance = random.Random(0)
    async with asyncio.TaskGroup() as clients:
        for number in range(int(seconds * TIMES * CAPACITY_PER_SECOND)):
            late = time.monotonic() - (began + number / (TIMES * CAPACITY_PER_SECOND))
            await asyncio.sleep(max(-late, 0))
            clients.create_task(_ask(session, _body(chance), outcome))


def _body(chance: random.Random) -> dict[str, object]:
    return {"model": "tiny", "prompt": "hello", "max_tokens": chance.choice(TOKENS), "stream": chance.random() < 0.5}


async def _ask(session: aiohttp.ClientSession, body: dict[str, object], outcome: Outcome) -> None:
    sent = time.monotonic()
    async with session.post("/v1/completions", json=body) as answer:
        text = await answer.text()
    if answer.status == 429:
        outcome.refusal_seconds.append(time.monotonic() - sent)
        retry_after = answer.headers.get("retry-after", "")
        if not retry_after.isdigit() or not 1 <= int(retry_after) <= 120 or '"code":"queue_full"' not in text:
            outcome.wrong.append(f"429 with Retry-After {retry_after!r} and {text[:200]!r}")
    elif answer.status == 200 and '"error"' not in text:
        outcome.finished_at.append(time.monotonic())
    else:
        outcome.wrong.append(f"{answer.status} with {text[-200:]!r}")


def _session(server: ServerProcess) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", connector=connector)


def _memory(server: ServerProcess) -> tuple[int, int]:
    return anonymous_bytes(server.process.pid), anonymous_bytes(server.engine_pid())


async def _still_answers(server: ServerProcess, outcome: Outcome) -> None:
    answer = await server.public.post("/generate", json={"text": "hello", "max_tokens": 3})
    load = (await server.state())["load"]
    if answer.status_code != 200 or load["running"] + load["waiting"]:
        outcome.wrong.append(f"afterwards the server answers {answer.status_code} with {load} in flight")
