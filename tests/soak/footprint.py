"""What a server holds of the machine: descriptors, memory and processes, read from /proc."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from tests.soak.report import Report
from tests.support.server_process import ServerProcess

SETTLE_SECONDS = 10.0
"""How long closing connections may take to be gone, on a busy machine."""
SLACK_BYTES = 8 * 2**20
"""What allocators keep for themselves; 10,000 leaked tasks or sequences are far more."""


@dataclass(frozen=True)
class Footprint:
    """The two processes of a server. Memory is what is theirs alone (RssAnon), in bytes."""

    sequences: int
    web_descriptors: int
    engine_descriptors: int
    web_bytes: int
    engine_bytes: int


async def footprint(server: ServerProcess) -> Footprint:
    """Return what `server` holds now."""
    load = (await server.state())["load"]
    web, engine = server.process.pid, server.engine_pid()
    return Footprint(
        sequences=load["running"] + load["waiting"],
        web_descriptors=_descriptors(web),
        engine_descriptors=_descriptors(engine),
        web_bytes=anonymous_bytes(web),
        engine_bytes=anonymous_bytes(engine),
    )


async def settled(server: ServerProcess, before: Footprint) -> Footprint:
    """Return the footprint once it is no larger than `before` but for memory, or what is left after SETTLE_SECONDS."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = await footprint(server)
        is_as_before = now.web_descriptors <= before.web_descriptors and now.sequences <= before.sequences
        if is_as_before or time.monotonic() > deadline:
            return now
        await asyncio.sleep(0.05)


def compare(report: Report, before: Footprint, after: Footprint) -> None:
    """Write down what has grown."""
    report.figures |= {
        "web_growth_mib": round((after.web_bytes - before.web_bytes) / 2**20, 2),
        "engine_growth_mib": round((after.engine_bytes - before.engine_bytes) / 2**20, 2),
        "descriptor_growth": after.web_descriptors - before.web_descriptors,
    }
    report.expect(after.sequences == 0, f"{after.sequences} sequences are still in flight")
    for name in ("web_descriptors", "engine_descriptors"):
        was, now = getattr(before, name), getattr(after, name)
        report.expect(now <= was, f"{name} grew from {was} to {now}")
    for name in ("web_bytes", "engine_bytes"):
        was, now = getattr(before, name), getattr(after, name)
        report.expect(now <= was + SLACK_BYTES, f"{name} grew from {was:,} to {now:,}")


def anonymous_bytes(pid: int) -> int:
    """Return the memory of a process that no file stands behind."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def _descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
