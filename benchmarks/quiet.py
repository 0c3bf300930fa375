"""How much CPU other processes used while something was measured, and waiting until they use little.

A neighbour on a machine of two cores moves every figure, so each measurement carries what others took from it.
Time that a hypervisor took (steal) counts as theirs too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def busy_seconds(stat: str) -> float:
    """Return the CPU seconds of all cores that were not idle since boot, from the text of /proc/stat."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in stat.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def process_seconds(stat: str) -> tuple[int, float]:
    """Return the session of a process, and its CPU seconds with those of children it has waited for.

    `stat` is the text of /proc/PID/stat; the program's name in it may hold spaces and brackets.
    """
    fields = stat.rpartition(")")[2].split()
    return int(fields[3]), sum(int(field) for field in fields[11:15]) / TICKS_PER_SECOND


def others_cores(busy: float, own: float, wall: float) -> float:
    """Return the cores that others kept busy on average, from seconds; never below 0, as ticks are coarse."""
    return max(0.0, (busy - own) / max(wall, 1e-3))


class Meter:
    """Measures a block: `wall` seconds, and the cores that `others` used.

    Others are all but this process, its children that ended, and the processes of `sessions`.
    """

    def __init__(self, sessions: Collection[int] = ()) -> None:
        self._sessions = frozenset(sessions)
        self.wall = 0.0
        self.others = 0.0

    def __enter__(self) -> Meter:
        self._began = self._now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall, busy, own = (after - before for before, after in zip(self._began, self._now(), strict=True))
        self.wall, self.others = wall, others_cores(busy, own, wall)

    def _now(self) -> tuple[float, float, float]:
        # With the children that ended: what is started and stopped within the block is no one else's.
        own = sum(os.times()[:4]) + sum(self._seconds(pid) for pid in _process_ids() if pid != os.getpid())
        return time.perf_counter(), busy_seconds((PROC / "stat").read_text()), own

    def _seconds(self, pid: int) -> float:
        try:
            session, seconds = process_seconds((PROC / str(pid) / "stat").read_text())
        except (FileNotFoundError, ProcessLookupError):
            return 0.0
        return seconds if session in self._sessions else 0.0


def wait_until_quiet(limit_cores: float, patience_seconds: float, window_seconds: float = 0.5) -> bool:
    """Wait until all other processes, our servers among them, use at most `limit_cores`; False if they never do."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        with Meter() as meter:
            time.sleep(window_seconds)
        if meter.others <= limit_cores:
            return True
    return False


def _process_ids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
