"""F11: the operator looks at what was: a watch hangs behind, another API server answers lists from its older cache, or
a successor begins with such an answer (in the words of Sieve, OSDI '22: stale states and time travel).

What is old is the view of some resources or of all: their watches and whole lists, as they were at one of the
operator's writes in the act. Later it goes on from there, as a watch cache that catches up. What is read of one
LLMService alone is answered as it is, for so Kubernetes promises it of reads without a resource version: an API server
that never does it cannot be told from one that works.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from aiohttp import web

from tests.campaign.disturbed import Disturbance, Undisturbed
from tests.campaign.run import Run
from tests.support.api_proxy import WATCHED, Call, event_type, refusal

OLD_SECONDS = 2.0
"""How long the view stays old, from when it was first shown."""
VIEWS: dict[str, tuple[str, ...]] = {
    "everything": WATCHED,
    "LLMServices": ("llmservices",),
    "children": WATCHED[1:],
    "Deployments": ("deployments",),
    "Jobs and pods": ("jobs", "pods"),
    "revisions": ("controllerrevisions",),
    "revisions and Deployments": ("controllerrevisions", "deployments"),
    "volumes, Jobs and pods": ("persistentvolumeclaims", "jobs", "pods"),
    "configurations": ("configmaps",),
    "others": ("services", "serviceaccounts", "horizontalpodautoscalers", "poddisruptionbudgets", "networkpolicies"),
}
Way = Literal["hangs behind", "is older after a failover", "is older after a restart"]


@dataclass(frozen=True)
class Plan:
    """One old view."""

    view: str
    way: Way
    since: int
    """The view is that right before this write of the act; 0 is the beginning of the act."""
    until: int | None
    """The failover or the restart comes with this write; None: after the act."""

    def __str__(self) -> str:
        when = "after the act" if self.until is None else f"at write {self.until}"
        return f"the view of {self.view} {self.way} {when}: as at write {self.since}"

    def disturbance(self) -> Disturbance:
        """See disturbed.Plan."""
        return OldView(self)


class OldView(Disturbance):
    """Plays a plan."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._resources = VIEWS[plan.view]
        self._writes = 0
        self._old: dict[str, bytes] = {}
        self._is_older = False
        """Whether anything has changed since; if not, the play proves nothing."""
        self._shows_old = False
        self._shown: set[str] = set()
        """Paths of the collections that were listed from the old view."""
        self._is_fresh = asyncio.Event()
        self._is_fresh.set()
        self._start_again: Callable[[], None] = lambda: None

    async def begin(self, run: Run) -> None:
        """See Disturbance."""
        await super().begin(run)
        self._start_again = run.operator.restart
        await self._reached(0)

    async def act_done(self) -> None:
        """Turn the time back, if that comes last, and wait until it goes on."""
        if self._plan.until is None:
            await self._turn_back()
        await self._is_fresh.wait()

    async def instead(self, call: Call, request: web.Request) -> web.StreamResponse | None:
        """Answer a list from the old view; whoever has seen a newer one must list again before it can watch."""
        if self.is_armed and call.is_write and call.is_operators:
            self._writes += 1
            await self._reached(self._writes)
        if not self._shows_old or call.resource not in self._resources:
            return None
        if call.verb == "list" and request.path_qs in self._old:
            self._show(request.path)
            return web.Response(body=self._old[request.path_qs], content_type="application/json")
        return refusal(410) if call.verb == "watch" and request.path not in self._shown else None

    async def events(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Hold back what is newer than the view."""
        async for line in lines:
            if call.resource in self._resources and not self._is_fresh.is_set():
                if self._plan.way == "hangs behind" and event_type(line) != "BOOKMARK":
                    self.has_struck = True
                await self._is_fresh.wait()
            yield line

    async def _reached(self, write: int) -> None:
        if write == self._plan.since:
            if self._plan.way == "hangs behind":
                self._hold()
            else:
                self._old = await self.proxy.remembered(self._resources)
        if write == self._plan.until:
            await self._turn_back()

    async def _turn_back(self) -> None:
        if not self._old or self._shows_old:
            return
        self._is_older = _items(self._old) != _items(await self.proxy.remembered(self._resources))
        self._shows_old = True
        self._is_fresh.clear()
        if self._plan.way == "is older after a restart":
            self._start_again()
        else:
            self.proxy.cut(self._resources)

    def _show(self, path: str) -> None:
        if not self._shown:
            self.has_struck = self._is_older
            self._hold()
        self._shown.add(path)

    def _hold(self) -> None:
        self._is_fresh.clear()
        self.over_at = time.monotonic() + OLD_SECONDS
        asyncio.get_running_loop().call_later(OLD_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._shows_old = False
        self._is_fresh.set()


def _items(lists: dict[str, bytes]) -> dict[str, Any]:
    return {target: json.loads(body)["items"] for target, body in lists.items()}


def plans(expected: Undisturbed) -> list[Plan]:
    """Return all plans for an act."""
    found, writes = [], expected.writes
    for since in range(writes + 1):
        for view in VIEWS:
            found.append(Plan(view, "hangs behind", since, None))
            for way, until in itertools.product(get_args(Way)[1:], (None, since + 1, since + 3)):
                if until is None or until <= writes:
                    found.append(Plan(view, way, since, until))
    return found
