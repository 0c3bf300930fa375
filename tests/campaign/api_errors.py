"""F13, F14, F15: every verb on every kind that the operator uses fails in every way for a few seconds, each by itself.

Meanwhile one service may cost the API server five requests a second beside what its work needs anyway.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Final, Literal

from aiohttp import web

from llmservice_operator import names
from tests.campaign.disturbed import Disturbance, Undisturbed
from tests.campaign.run import Run
from tests.campaign.scenarios import EXCHANGE, LOOSEN, SCENARIOS, Scenario
from tests.support.api_proxy import WATCHED, Call, hang, refusal, reset

FAULT_SECONDS = 4.0
"""How long the requests fail, from the first one."""
REQUESTS_PER_SECOND = 5
Fault = Literal[
    "409",
    "410",
    "422",
    "429 with Retry-After",
    "500",
    "503",
    "a reset",
    "a reset after it was carried out",
    "no answer",
]
CARRIED_OUT: Final = "a reset after it was carried out"
RETRY_AFTER = {"Retry-After": "1"}
NEW_LEASE = (Call("get", "leases"), Call("create", "leases"))
LISTED = tuple(Call(verb, resource) for resource in WATCHED for verb in ("list", "watch"))


@dataclass(frozen=True)
class Plan:
    """What becomes of the requests of one verb about one resource."""

    call: Call
    fault: Fault

    def __str__(self) -> str:
        about = "/".join(part for part in (self.call.resource, self.call.subresource) if part)
        return f"{self.call.verb} {about} meets {self.fault}"

    def disturbance(self) -> Disturbance:
        """See disturbed.Plan."""
        return Failing(self)


class Failing(Disturbance):
    """Plays a plan."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._began_at = 0.0

    async def begin(self, run: Run) -> None:
        """See Disturbance; brings about the requests that do not occur by themselves."""
        await super().begin(run)
        if self._plan.call.verb in ("watch", "list"):
            self.proxy.cut({self._plan.call.resource})
        if self._plan.call in NEW_LEASE:
            await run.api.delete("Lease", names.LEASE)

    async def act_done(self) -> None:
        """Wait until it is over."""
        await asyncio.sleep(max(0.0, self.over_at - time.monotonic()))

    async def instead(self, call: Call, request: web.Request) -> web.StreamResponse | None:
        """See Faults."""
        wanted = self._plan.call
        if self.is_armed and wanted.verb == "list" and kind_of(call) == replace(wanted, verb="watch"):
            return None if self.has_struck else refusal(410)
        if not self._fails(call):
            return None
        return await _answer(self._plan.fault, request)

    async def afterwards(self, call: Call, request: web.Request) -> None:
        """See Faults."""
        if self._plan.fault == CARRIED_OUT and self._fails(call):
            reset(request)
            await hang()

    def complaint(self, expected: Undisturbed) -> str:
        """See Disturbance."""
        sent = [call for at, call in self.proxy.calls if self._began_at <= at < self.over_at]
        allowed = int(REQUESTS_PER_SECOND * FAULT_SECONDS) + len(expected.calls)
        return "" if len(sent) <= allowed else f"{len(sent)} requests in {FAULT_SECONDS} s, {allowed} are enough"

    def _fails(self, call: Call) -> bool:
        if not self.is_armed or kind_of(call) != self._plan.call:
            return False
        if not self.has_struck:
            self.has_struck = True
            self._began_at = time.monotonic()
            self.over_at = self._began_at + FAULT_SECONDS
        return time.monotonic() < self.over_at


async def _answer(fault: Fault, request: web.Request) -> web.Response | None:
    if fault == CARRIED_OUT:
        return None
    if fault == "a reset":
        reset(request)
    if fault in ("a reset", "no answer"):
        await hang()
    status, _, has_delay = fault.partition(" with ")
    return refusal(int(status), RETRY_AFTER if has_delay else None)


@dataclass(frozen=True)
class Place:
    """A play in which requests can fail that do not occur in any place before it."""

    scenario: Scenario
    spec: str
    only: tuple[str, ...] = ()
    """Verbs, or resources, of what occurs; all if there are none."""
    also: tuple[Call, ...] = ()
    """What does not occur by itself within the act."""


def kind_of(call: Call) -> Call:
    """Return the same without the name of the object."""
    return replace(call, name="")


_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
PLACES = (
    Place(_BY_NAME["create"], "guarded", also=LISTED),
    Place(_BY_NAME["create"], "autoscaled", only=("horizontalpodautoscalers",)),
    Place(_BY_NAME["edit"], "six lines", only=("patch",), also=NEW_LEASE),
    Place(_BY_NAME["rollback"], "by hand", only=("patch", "delete", "list")),
    Place(_BY_NAME["suspend"], "autoscaled", only=("patch", "delete", "list")),
    Place(LOOSEN, "guarded", only=("delete",)),
    Place(EXCHANGE, "by hand", only=("delete",)),
)


def plans(place: Place, fault: Fault, expected: Undisturbed) -> list[Plan]:
    """Return the plans in which one of the requests of a place after the other meets this fault."""
    asked = {kind_of(call): None for call in expected.calls if call.is_operators}
    calls = [call for call in asked if not place.only or not {call.verb, call.resource}.isdisjoint(place.only)]
    calls = list(dict.fromkeys((*calls, *place.also)))
    if fault == CARRIED_OUT:
        calls = [call for call in calls if call.verb in ("create", "patch", "delete")]
    return [Plan(call, fault) for call in calls]
