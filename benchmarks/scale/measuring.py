"""The measurements of one fleet, in the order of its life: created, operator restarted, edited, left alone."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.quiet import Meter
from benchmarks.records import percentile
from benchmarks.scale.audit import AuditLog, Request
from benchmarks.scale.fleet import Fleet
from benchmarks.scale.operator_process import OperatorProcess

QUIET_SECONDS = 5.0
"""Without a write the operator is taken to have nothing more to do."""
SETTLE_SECONDS = 300.0
EDIT_SECONDS = 1.0
"""Mean time between two edits."""


@dataclass(frozen=True)
class Creation:
    """What it took to create a fleet."""

    services: int
    ready_seconds: float
    """From the first create to the last one ready."""
    cpu_seconds: float
    """Processor time of the operator, until it had nothing more to do."""
    reads: int
    writes: Counter[str]
    """By what was written."""
    others_cores: float
    """What processes that have nothing to do with this took from the machine meanwhile, on average."""

    def __str__(self) -> str:
        """Return the costs of one service."""
        share = 1 / self.services
        return (
            f"{self.services} services ready after {self.ready_seconds:.1f} s; for each the operator used "
            f"{1000 * self.cpu_seconds * share:.0f} ms of processor time, {self.reads * share:.1f} reads and "
            f"{self.writes.total() * share:.1f} writes; others used {self.others_cores:.1f} cores"
        )


@dataclass(frozen=True)
class Restart:
    """What a new operator did first."""

    resync_seconds: float
    writes: Counter[str]


async def creation(fleet: Fleet, operator: OperatorProcess, audit: AuditLog, within_seconds: float) -> Creation:
    """Create the fleet and wait until the operator has nothing more to do."""
    audit.news()
    cpu_before = operator.cpu_seconds
    with Meter(sessions=[os.getsid(0)]) as meter:
        began = time.monotonic()
        await fleet.create()
        await fleet.ready(within_seconds)
        ready_seconds = time.monotonic() - began
    requests = await settled(audit)
    return Creation(
        services=len(fleet.members),
        ready_seconds=ready_seconds,
        cpu_seconds=operator.cpu_seconds - cpu_before,
        reads=sum(request.by_operator and not request.is_write for request in requests),
        writes=writes(requests),
        others_cores=meter.others,
    )


async def restart(operator: OperatorProcess, services: int, audit: AuditLog) -> Restart:
    """Wait until a new operator is in step with the cluster, and a little longer for writes that follow."""
    audit.news()
    resync_seconds = await operator.synced(services)
    await asyncio.sleep(2 * QUIET_SECONDS)
    return Restart(resync_seconds, writes(audit.news()))


async def first_writes(fleet: Fleet, edits: int, audit: AuditLog, within_seconds: float) -> list[float]:
    """Edit single services and return, ascending, how many seconds after each the operator's first write came."""
    audit.news()
    edited = await fleet.edit(edits, EDIT_SECONDS, random.Random(0))
    await fleet.ready(within_seconds)
    requests = await settled(audit)
    return sorted(reaction_seconds(requests, namespace, name) for namespace, name in edited)


async def idle(seconds: float, audit: AuditLog) -> Counter[str]:
    """Leave everything alone and return what the operator has written nevertheless."""
    audit.news()
    await asyncio.sleep(seconds)
    return writes(audit.news())


async def settled(audit: AuditLog) -> list[Request]:
    """Return the requests until the operator has not written for a while."""
    requests: list[Request] = []
    async with asyncio.timeout(SETTLE_SECONDS):
        while True:
            news = audit.news()
            requests += news
            await asyncio.sleep(QUIET_SECONDS)
            later = audit.news()
            requests += later
            if not writes(later):
                return requests


def writes(requests: Iterable[Request]) -> Counter[str]:
    """Count the operator's writes by what was written."""
    return Counter(f"{one.verb} {one.target}" for one in requests if one.by_operator and one.is_write)


def reaction_seconds(requests: Iterable[Request], namespace: str, llmservice: str) -> float:
    """Return the time between the API server's receipt of a person's edit and of the operator's first write for it."""
    about_it = [request for request in requests if request.is_write and request.concerns(namespace, llmservice)]
    edited = next(request.at for request in about_it if not request.by_operator)
    answered = min(request.at for request in about_it if request.by_operator and request.at > edited)
    return (answered - edited).total_seconds()


def p99(seconds: list[float]) -> float:
    """Return what 99 of 100 do not exceed."""
    return percentile(seconds, 0.99)
