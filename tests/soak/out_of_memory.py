"""Requests that memory does not suffice for, among others: each fails alone, and nobody else notices."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import aiohttp

from tests.soak.report import Report
from tests.soak.scarce_memory import LIMIT_TOKENS
from tests.support.models import write_checkpoint
from tests.support.server_process import ServerProcess, ready_server

CLIENTS = 24
WORD = " the"
"""One token of the tiny model, and whoever asks with LIMIT_TOKENS of them fails."""
SECONDS = 60.0


async def only_the_offender_fails(folder: Path, count: int, seed: int = 0) -> Report:
    """Send `count` requests that run out of memory, in prefill or later, among as many that do not."""
    chance = random.Random(seed)
    model = write_checkpoint(folder / "model", dtype="float32")
    variables: dict[str, object] = {
        "LLMSERVICE_ENGINE": "transformers",
        "LLMSERVICE_MODEL_PATH": model,
        "LLMSERVICE_QUANTIZATION": "none",
        "LLMSERVICE_MAX_BATCH_SIZE": 8,
    }
    report = Report({"injected": count})
    async with (
        ready_server(folder, "tests.soak.scarce_memory", **variables) as server,
        _session(server) as session,
    ):
        modest = [_modest(number) for number in range(6)]
        alone = [await _answer(session, body) for body in modest]
        engine = server.engine_pid()
        asked = [("offender", chance.random()) for _ in range(count)] + [
            ("modest", chance.random()) for _ in range(count)
        ]
        chance.shuffle(asked)
        began = time.monotonic()
        wrong: list[str] = []
        todo = iter(asked)

        async def client() -> None:
            for kind, drawn in todo:
                if kind == "offender":
                    wrong.extend(_wrong_offender(await _answer(session, _offender(drawn))))
                else:
                    number = int(drawn * len(modest))
                    answer = await _answer(session, modest[number])
                    if answer != alone[number]:
                        wrong.append(f"a modest request got {answer} instead of {alone[number]}")

        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(client())
        report.figures["seconds"] = round(time.monotonic() - began, 1)
        report.figures["wrong"] = len(wrong)
        report.findings += wrong[:5]
        report.expect(server.engine_pid() == engine, "the engine process is another one")
        report.expect(await server.phase() == "Ready", "the server is not ready any more")
        load = (await server.state())["load"]
        report.expect(load["running"] + load["waiting"] == 0, f"sequences are left: {load}")
        report.expect([await _answer(session, body) for body in modest] == alone, "answers have changed")
    report.expect("Traceback" not in (folder / "log").read_text(), "the log holds a stack trace")
    return report


def _modest(number: int) -> dict[str, object]:
    """Return a request that stays far below the limit."""
    return {"model": "tiny", "prompt": WORD * (1 + number * 12), "max_tokens": 8, "temperature": 0, "stream": False}


def _offender(drawn: float) -> dict[str, object]:
    """Return a request that goes beyond the limit: half of them by their prompt, the others while they generate."""
    words = LIMIT_TOKENS + 1 + int(drawn * 100) if drawn < 0.5 else LIMIT_TOKENS - int(drawn * 20)
    # Nothing but a word that the model knows, so that no end of sequence comes before the limit.
    bias = {"80": 100}
    return {"model": "tiny", "prompt": WORD * words, "max_tokens": 60, "temperature": 0, "logit_bias": bias}


def _wrong_offender(answer: tuple[int, str]) -> list[str]:
    status, text = answer
    return [] if status == 503 and '"code":"out_of_memory"' in text else [f"an offender got {status} {text[:200]}"]


async def _answer(session: aiohttp.ClientSession, body: dict[str, object]) -> tuple[int, str]:
    """Return the status, and the text of a completion or the body of an error."""
    async with session.post("/v1/completions", json=body) as answer:
        if answer.status == 200:
            return 200, str((await answer.json())["choices"][0]["text"])
        return answer.status, await answer.text()


def _session(server: ServerProcess) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    return aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", timeout=timeout)
