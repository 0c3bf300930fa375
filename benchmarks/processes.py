"""Processes that are measured: each in a session of its own, so that its CPU is known and that it ends whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT

LOGS = ROOT / "build" / "bench" / "logs"
STOP_SECONDS = 20.0
TUNING = ("HF_", "HUGGING", "KMP_", "LLMSERVICE_", "MKL_", "OMP_", "PYTHON", "TORCH", "VLLM_")


def environment(variables: Mapping[str, str], python_path: bool = False) -> dict[str, str]:
    """Return ours without what tunes one of the programs, plus `variables`; each is to run as its makers ship it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(TUNING)}
    path = {"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("hack", "operator", "."))}
    return {**kept, **(path if python_path else {}), "HF_HUB_OFFLINE": "1", **variables}


@contextmanager
def running(
    name: str, command: Sequence[str], variables: Mapping[str, str], **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` in a session of its own, its log in build/bench/logs/NAME.log, and end the session in the end."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{name}.log").open("wb") as log:
        options = {"stdout": log, **options}
        process = subprocess.Popen(
            command, cwd=ROOT, env=dict(variables), stderr=log, start_new_session=True, **options
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        if number == signal.SIGKILL or not _is_group(process.pid):
            return


def _is_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Worker:
    """A child of ours that answers one JSON line for each JSON line; `ready` is its first line, unasked."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.session = process.pid
        self._process = process
        self.ready = self._read()

    @classmethod
    @contextmanager
    def started(cls, name: str, module: str, *arguments: str) -> Iterator[Worker]:
        """Start `python -m MODULE ARGUMENTS` and wait until it is ready."""
        command = [sys.executable, "-m", module, *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with running(name, command, environment({}, python_path=True), **pipes) as process:
            yield cls(name, process)

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Send a question and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended; see {LOGS / self.name}.log")
        answer: dict[str, Any] = json.loads(line)
        return answer


def read_whole(folder: Path) -> None:
    """Read every file of `folder`, so that a load that is timed finds it in the page cache."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            while file.read(2**24):
                pass
