"""Starts long-running programs, finds them again by their recorded identity, and ends them.

A process is known by its id together with its start time, so that a recycled id is never taken for ours.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process that was started: its id and when the kernel says it began, in clock ticks since boot."""

    pid: int
    started_ticks: int

    def is_running(self) -> bool:
        """Tell whether this very process still runs (a zombie does not)."""
        return started_ticks(self.pid) == self.started_ticks

    def end(self, *, patience_seconds: float = 0.0) -> None:
        """Ask with SIGTERM when there is patience, then SIGKILL, and return when it is gone."""
        if patience_seconds > 0:
            self._signal(signal.SIGTERM)
            if self._gone_within(patience_seconds):
                return
        self._signal(signal.SIGKILL)
        self._gone_within(10.0)

    def _signal(self, number: signal.Signals) -> None:
        if self.is_running():
            os.kill(self.pid, number)

    def _gone_within(self, seconds: float) -> bool:
        child = _children.get(self.pid)
        return self._vanishes_within(seconds) if child is None else _ends_within(child, seconds)

    def _vanishes_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def _ends_within(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a child of ours: one with many threads looks like a zombie before its last thread has ended."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    del _children[child.pid]
    return True


def started_ticks(pid: int) -> int | None:
    """Return when process `pid` began, or None when there is none or only its zombie is left."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def start(
    command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None, outlives_caller: bool
) -> Process:
    """Start `command` with its output appended to `log`.

    One that does not outlive its caller gets SIGKILL from the kernel when the calling thread ends, however it ends,
    and stays in the caller's process group. One that does gets a session of its own.
    """
    arguments = [str(argument) for argument in command]
    if not outlives_caller:
        # A caller that died before its death could be noticed leaves a shell with another parent, which ends.
        unless_orphaned = ["sh", "-c", 'test "$PPID" = "$0" && exec "$@"', str(os.getpid())]
        arguments = ["setpriv", "--pdeathsig", "KILL", *unless_orphaned, *arguments]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else {**os.environ, **env},
            start_new_session=outlives_caller,
        )
    _children[child.pid] = child
    return Process(child.pid, started_ticks(child.pid) or 0)


# Kept so that Popen's destructor neither warns nor leaves it to chance when a child is reaped.
_children: dict[int, subprocess.Popen[bytes]] = {}


def reap() -> None:
    """Collect the exit status of our children that have ended."""
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            del _children[pid]


def record(process: Process, path: Path) -> None:
    """Write down which process it is, for a later run of the tool."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pid": process.pid, "started_ticks": process.started_ticks}))


def recorded(path: Path) -> Process | None:
    """Return the process written down at `path` when it still runs."""
    try:
        process = Process(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return process if process.is_running() else None


def tail(log: Path, lines: int = 8) -> str:
    """Return the last lines of a log, for a message about the program that wrote it."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"
