"""How a server under load ends: a SIGTERM that loses no answer, and an engine whose death every client is told of."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.soak.report import Report
from tests.support.server_process import ServerProcess, ready_server

STREAMS = 32
GRACE_SECONDS = 5
TOKENS_PER_SECOND = 50
EXIT_SECONDS = 1.0
LOSS_SECONDS = 2.0
SERVER = {
    "LLMSERVICE_MAX_BATCH_SIZE": STREAMS,
    "LLMSERVICE_MAX_QUEUE_DEPTH": 2 * STREAMS,
    "LLMSERVICE_FAKE_TOKENS_PER_SECOND": TOKENS_PER_SECOND,
}


async def terminate_under_load(
    folder: Path, stream_seconds: float, grace_seconds: int = GRACE_SECONDS, exit_seconds: float = EXIT_SECONDS
) -> Report:
    """Send SIGTERM while STREAMS streams run for `stream_seconds`, with newcomers until the server takes none."""
    report = Report()
    # One slot for newcomers, who would wait for the streams otherwise.
    more = {"LLMSERVICE_MAX_BATCH_SIZE": STREAMS + 1, "LLMSERVICE_ENDPOINT_GRACE_SECONDS": grace_seconds}
    settings = {**SERVER, **more}
    tokens = round(stream_seconds * TOKENS_PER_SECOND)
    async with ready_server(folder, **settings) as server, _session(server) as session:
        begun = asyncio.Barrier(STREAMS + 1)
        streams = [asyncio.create_task(_stream(session, tokens, begun)) for _ in range(STREAMS)]
        await begun.wait()
        server.terminate()
        terminated = time.monotonic()
        newcomers = asyncio.create_task(_newcomers(server, until=terminated + grace_seconds))
        answers = await asyncio.gather(*streams)
        answered, broken = await newcomers
        last = time.monotonic()
        code = await server.exit_code(seconds=30)
        due = max(last, terminated + grace_seconds)
        report.figures = {
            "streams": len(answers),
            "newcomers_answered": answered,
            "exit_after_due_seconds": round(time.monotonic() - due, 3),
        }
        report.expect(time.monotonic() - due <= exit_seconds, f"exit {time.monotonic() - due:.2f} s after it was due")
    report.expect(code == 0, f"exit code {code}")
    report.expect(answered > 0, "no newcomer was answered during the grace")
    report.expect(broken == 0, f"{broken} newcomers got no answer during the grace")
    complete = sum(answer.endswith("data: [DONE]\n\n") and '"error"' not in answer for answer in answers)
    report.expect(complete == STREAMS, f"{STREAMS - complete} of {STREAMS} streams in flight were cut")
    return report


async def kill_the_engine_under_load(folder: Path) -> Report:
    """Send SIGKILL to the engine process while STREAMS streams run and as many requests wait."""
    async with ready_server(folder, **SERVER) as server, _session(server) as session:
        begun = asyncio.Barrier(STREAMS + 1)
        streams = [asyncio.create_task(_stream(session, 1500, begun)) for _ in range(STREAMS)]
        await begun.wait()
        waiting = [asyncio.create_task(_waiting(session)) for _ in range(STREAMS)]
        await _until_waiting(server)
        os.kill(server.engine_pid(), signal.SIGKILL)
        killed = time.monotonic()
        answers = await asyncio.gather(*streams)
        statuses = await asyncio.gather(*waiting)
        told = time.monotonic() - killed
        code = await server.exit_code()
    report = Report({"streams": len(answers), "waiting": len(statuses), "told_after_seconds": round(told, 3)})
    typed = sum(_ends_with_code(answer, "worker_lost") for answer in answers)
    report.expect(typed == STREAMS, f"{STREAMS - typed} of {STREAMS} streams ended without a typed error")
    report.expect(set(statuses) == {503}, f"requests in line got {sorted(set(statuses))} instead of 503")
    report.expect(told <= LOSS_SECONDS, f"clients knew after {told:.2f} s")
    report.expect(code == 70, f"exit code {code}")
    report.expect("Traceback" not in (folder / "log").read_text(), "the log holds a stack trace")
    return report


@asynccontextmanager
async def _session(server: ServerProcess) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", connector=connector) as session:
        yield session


def _body(max_tokens: int, stream: bool) -> dict[str, object]:
    return {"model": "tiny", "prompt": "hello", "max_tokens": max_tokens, "stream": stream}


async def _stream(session: aiohttp.ClientSession, max_tokens: int, begun: asyncio.Barrier) -> str:
    """Return all that comes of a stream; its first piece, and those of the others, before the barrier opens."""
    async with session.post("/v1/completions", json=_body(max_tokens, stream=True)) as answer:
        assert answer.status == 200, await answer.text()
        first = await answer.content.readany()
        await begun.wait()
        return (first + await answer.content.read()).decode()


async def _waiting(session: aiohttp.ClientSession) -> int:
    async with session.post("/v1/completions", json=_body(5, stream=False)) as answer:
        await answer.read()
        return answer.status


async def _until_waiting(server: ServerProcess) -> None:
    async with asyncio.timeout(30):
        while (await server.state())["load"]["waiting"] < STREAMS:  # noqa: ASYNC110 - the line is in another process
            await asyncio.sleep(0.01)


async def _newcomers(server: ServerProcess, until: float) -> tuple[int, int]:
    """Ask over new connections until none is taken; return how many were answered, and how many not before `until`.

    What is in the listener's line when it closes is reset, so afterwards a reset is as good as a refusal.
    """
    answered = broken = 0
    while True:
        try:
            async with (
                _session(server) as session,
                session.post("/generate", json={"text": "a", "max_tokens": 2}) as got,
            ):
                await got.read()
        except aiohttp.ClientError:
            if time.monotonic() >= until:
                return answered, broken
            broken += 1
        else:
            answered += got.status == 200
            broken += got.status != 200


def _ends_with_code(answer: str, code: str) -> bool:
    last = answer.rstrip("\n").rpartition("\n\n")[2].removeprefix("data: ")
    return "[DONE]" not in answer and json.loads(last).get("error", {}).get("code") == code
