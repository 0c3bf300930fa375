"""`python -m tests.soak [PART …]`: the proofs that take minutes; the last line is JSON with every figure.

`make test` runs the same code with smaller numbers (tests/contract/test_soak_*.py). Exits 1 when a part has findings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from tests.soak import correctness, disconnects, ends, out_of_memory, overload, requests
from tests.soak.report import Report
from tests.support.models import write_checkpoint

Part = Callable[[Path], Coroutine[Any, Any, Report]]


def _tiny(folder: Path) -> dict[str, object]:
    model = write_checkpoint(folder / "model")
    return {
        "LLMSERVICE_ENGINE": "transformers",
        "LLMSERVICE_MODEL_PATH": model,
        "LLMSERVICE_QUANTIZATION": "none",
        "LLMSERVICE_MAX_BATCH_SIZE": 16,
    }


PARTS: Mapping[str, Part] = {
    "disconnects": lambda folder: disconnects.leave_no_trace(folder, 10_000, disconnects.FAKE),
    "disconnects-tiny-model": lambda folder: disconnects.leave_no_trace(folder, 10_000, _tiny(folder)),
    "slots": lambda folder: disconnects.slots_change_hands(folder, 200, {"LLMSERVICE_FAKE_TOKENS_PER_SECOND": 50}),
    "slots-tiny-model": lambda folder: disconnects.slots_change_hands(folder, 200, _tiny(folder)),
    "requests": lambda folder: requests.answer_everything(folder, 100_000),
    "overload": lambda folder: overload.ten_times_saturation(folder, 60, 20, overload.Bounds()),
    "sigterm-long-streams": lambda folder: ends.terminate_under_load(folder, stream_seconds=8),
    "sigterm-short-streams": lambda folder: ends.terminate_under_load(folder, stream_seconds=2),
    "sigkill-engine": lambda folder: ends.kill_the_engine_under_load(folder),
    "out-of-memory": lambda folder: out_of_memory.only_the_offender_fails(folder, 1000),
    "correctness": lambda folder: asyncio.to_thread(correctness.batched_as_alone, folder, 5000),
}


def main() -> int:
    """Run the named parts, or all, each with a new server."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="default: all")
    names = parser.parse_args().part or list(PARTS)
    reports = {name: _run(name) for name in names}
    print(json.dumps({name: {**report.figures, "findings": report.findings} for name, report in reports.items()}))
    return 1 if any(report.findings for report in reports.values()) else 0


def _run(name: str) -> Report:
    began = time.monotonic()
    print(f"{name} …", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(PARTS[name](Path(folder)))
    verdict = "passed" if not report.findings else "FAILED: " + "; ".join(report.findings)
    print(f"{name}: {verdict} ({time.monotonic() - began:.0f} s) {report.figures}", file=sys.stderr, flush=True)
    return report


if __name__ == "__main__":
    sys.exit(main())
