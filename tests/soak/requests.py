"""Many generated requests to a real server: none is answered with 5xx, hangs, or shows a stack trace."""

from __future__ import annotations

import asyncio
import collections
import json
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from yarl import URL

from tests.soak.footprint import compare, footprint, settled
from tests.soak.generated import Request, Schema, requests
from tests.soak.report import Report
from tests.support.server_process import ROOT, ServerProcess, ready_server

DOCUMENT = ROOT / "docs" / "openapi.json"
HANG_SECONDS = 10.0
AT_ONCE = 4
ROUND = 2000
"""Examples that one hypothesis keeps in mind."""
SERVER = {
    "LLMSERVICE_MAX_MODEL_LEN": 256,
    "LLMSERVICE_MAX_BATCH_SIZE": 16,
    "LLMSERVICE_FAKE_TOKENS_PER_SECOND": 100_000,
}


async def answer_everything(folder: Path, count: int, seed: int = 0, **variables: object) -> Report:
    """Send `count` requests to a new server and say which answers are not as they must be: one of each round."""
    document = json.loads(DOCUMENT.read_text())
    statuses: collections.Counter[int] = collections.Counter()
    report = Report()
    async with ready_server(folder, **{**SERVER, **variables}) as server, _session(server) as session:
        before = None
        began = time.monotonic()
        for number in range(0, count, AT_ONCE * ROUND):
            examples = min(ROUND, (count - number) // AT_ONCE)
            finding = await _round(document, server, session, examples, seed + number, statuses)
            if finding is not None:
                report.findings.append(finding)
            before = before or await footprint(server)
        report.figures = {
            "requests": statuses.total(),
            "seconds": round(time.monotonic() - began, 1),
            **{f"status_{status}": number for status, number in sorted(statuses.items())},
        }
        assert before is not None
        compare(report, before, await settled(server, before))
    report.expect("Traceback" not in (folder / "log").read_text(), "the log holds a stack trace")
    return report


async def _round(
    document: Schema,
    server: ServerProcess,
    session: aiohttp.ClientSession,
    examples: int,
    seed: int,
    statuses: collections.Counter[int],
) -> str | None:
    """Send `examples` times AT_ONCE requests; return the simplest request that went wrong, with what was wrong."""
    loop = asyncio.get_running_loop()
    complaint = ""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @hypothesis.given(st.lists(requests(document), min_size=AT_ONCE, max_size=AT_ONCE))
    def send(batch: Sequence[Request]) -> None:
        nonlocal complaint
        answered = asyncio.run_coroutine_threadsafe(_complaints(session, batch, statuses), loop)
        for request, found in zip(batch, answered.result(), strict=True):
            if found is not None:
                complaint = f"{found}: {request}"
                raise AssertionError(complaint)

    try:
        await asyncio.to_thread(send)
    except AssertionError:
        # What hypothesis ran last is the simplest that still fails.
        return complaint
    if server.process.returncode is not None:
        return f"the server has ended with {server.process.returncode}"
    return None


async def _complaints(
    session: aiohttp.ClientSession, batch: Sequence[Request], statuses: collections.Counter[int]
) -> list[str | None]:
    return await asyncio.gather(*(_complaint(session, request, statuses) for request in batch))


async def _complaint(
    session: aiohttp.ClientSession, request: Request, statuses: collections.Counter[int]
) -> str | None:
    """Return what is wrong with the answer to `request`."""
    url = session._base_url.join(URL(request.path, encoded=True)) if session._base_url else URL(request.path)
    try:
        async with session.request(request.method, url, headers=request.headers, data=request.body) as answer:
            body = await answer.read()
    except TimeoutError:
        return f"no answer within {HANG_SECONDS:g} s"
    except aiohttp.ClientError as error:
        return f"no answer: {type(error).__name__}: {error}"
    statuses[answer.status] += 1
    if answer.status >= 500:
        return f"{answer.status} {body[:500]!r}"
    if b"Traceback" in body or b'File "' in body:
        return f"a stack trace: {body[:500]!r}"
    if request.statuses is not None and answer.status not in request.statuses:
        return f"{answer.status}, which the document does not list: {body[:200]!r}"
    if "x-request-id" not in answer.headers:
        return f"{answer.status} without a request id"
    if request.method == "HEAD":
        return None
    return wrong_in_error(answer, body) if answer.status >= 400 else wrong_in_success(answer, body)


def wrong_in_error(answer: aiohttp.ClientResponse, body: bytes) -> str | None:
    """Return what is wrong with the body of a 4xx: OpenAI's object, or FastAPI's `detail` on /generate."""
    shown = f"{answer.status} with the body {body[:300]!r}"
    try:
        document = json.loads(body)
    except ValueError:
        return shown
    if answer.url.path == "/generate":
        return None if list(document) == ["detail"] and isinstance(document["detail"], str | list) else shown
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict) or not {"message", "type", "param", "code"} <= set(error):
        return shown
    return None if isinstance(error["message"], str) and error["message"] else shown


def wrong_in_success(answer: aiohttp.ClientResponse, body: bytes) -> str | None:
    """Return what is wrong with the body of a 200: JSON, or a stream of JSON that ends with [DONE]."""
    if not answer.content_type.startswith("text/event-stream"):
        try:
            return None if isinstance(json.loads(body), dict) else f"200 with {body[:300]!r}"
        except ValueError:
            return f"200 with {body[:300]!r}"
    frames = [frame for frame in body.decode().split("\n\n") if frame and not frame.startswith(":")]
    if not frames or frames.pop() != "data: [DONE]":
        return f"a stream without [DONE]: {body[-300:]!r}"
    for frame in frames:
        if "error" in json.loads(frame.removeprefix("data: ")):
            return f"an error in a stream: {frame[:300]}"
    return None


def _session(server: ServerProcess) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=HANG_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", timeout=timeout, connector=connector)
