"""`make bench-scale`: a thousand LLMServices on a control plane of their own, its nodes played by kwok.

The operator runs as its container starts it, with the rights and the settings of deploy/. What it asked of the API
server is read from the audit log; renewals of its Lease are not counted. Fleets of fewer services come first, each on a
control plane of its own, to compare what one service costs. Progress goes to stderr; the last line of stdout is the
result as JSON. Exits with 1 if the operator wrote where it should not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.scale import measuring
from benchmarks.scale.audit import AuditLog
from benchmarks.scale.fleet import NAMESPACES, Fleet, fleet
from benchmarks.scale.operator_process import OperatorProcess, operator_process
from benchmarks.scale.played_cluster import played_cluster
from cluster.controlplane import ControlPlane


def main() -> int:
    """Run, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 1000], help="the last is measured in full")
    parser.add_argument("--edits", type=int, default=200, help="single services that are changed")
    parser.add_argument("--idle-seconds", type=float, default=600.0)
    parser.add_argument("--ready-within-seconds", type=float, default=1800.0)
    arguments = parser.parse_args()
    *smaller, services = arguments.sizes
    for size in smaller:
        asyncio.run(_creation_alone(size, arguments.ready_within_seconds))
    result, unwanted = asyncio.run(_everything(services, arguments))
    for what, count in unwanted.items():
        print(f"should not have been written: {count} x {what}")
    print(json.dumps(result), flush=True)
    return 1 if unwanted else 0


async def _creation_alone(services: int, within_seconds: float) -> None:
    async with _stage(services) as (plane, crowd, audit), operator_process(plane) as operator:
        await _create(crowd, operator, audit, within_seconds)


async def _everything(services: int, arguments: argparse.Namespace) -> tuple[dict[str, float], Counter[str]]:
    within_seconds = arguments.ready_within_seconds
    async with _stage(services) as (plane, crowd, audit):
        async with operator_process(plane) as operator:
            creation = await _create(crowd, operator, audit, within_seconds)
            peak_mib = operator.peak_mib
        async with operator_process(plane) as operator:
            restart = await measuring.restart(operator, services, audit)
            _say(f"restarted and in step after {restart.resync_seconds:.1f} s, {operator.peak_mib:.0f} MiB")
            edits = min(arguments.edits, services)
            seconds = await measuring.first_writes(crowd, edits, audit, within_seconds)
            _say(f"first write after an edit: p50 {seconds[len(seconds) // 2]:.3f} s, longest {seconds[-1]:.3f} s")
            cpu_before = operator.cpu_seconds
            idle_writes = await measuring.idle(arguments.idle_seconds, audit)
            _say(f"idle: {operator.cpu_seconds - cpu_before:.1f} s of processor time in {arguments.idle_seconds:g} s")
            peak_mib = max(peak_mib, operator.peak_mib)
    result = {
        "services": services,
        "ready_seconds": round(creation.ready_seconds, 1),
        "resync_seconds": round(restart.resync_seconds, 1),
        "rss_mib": round(peak_mib),
        "first_write_p99_seconds": round(measuring.p99(seconds), 3),
        "idle_writes": idle_writes.total(),
    }
    return result, restart.writes + idle_writes


async def _create(
    crowd: Fleet, operator: OperatorProcess, audit: AuditLog, within_seconds: float
) -> measuring.Creation:
    await operator.synced(0)
    creation = await measuring.creation(crowd, operator, audit, within_seconds)
    _say(f"{creation}, {operator.peak_mib:.0f} MiB; {dict(creation.writes.most_common())}")
    return creation


@asynccontextmanager
async def _stage(services: int) -> AsyncIterator[tuple[ControlPlane, Fleet, AuditLog]]:
    with tempfile.TemporaryDirectory() as folder, played_cluster(Path(folder), NAMESPACES, services) as plane:
        async with fleet(plane, services) as crowd:
            yield plane, crowd, AuditLog(plane.audit_log)


def _say(text: str) -> None:
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    print(f"{text} (load {load})", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
