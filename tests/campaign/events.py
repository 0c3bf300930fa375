"""F08, F09, F10: watch events are lost until the stream ends, or doubled, or come in another order.

A stream of Kubernetes is in order and complete as far as it comes; what breaks is its end. So a lost event takes the
rest of its stream with it, and the stream then ends, is reset, expires (which has the operator list anew, without ever
seeing what was deleted and made again in between), or says nothing any more. One that is lost from a stream that goes
on, doubled and reordered events stand for whatever else may happen between two machines.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, get_args

from aiohttp import web

from tests.campaign.disturbed import Disturbance, Undisturbed
from tests.support.api_proxy import Call, event_type, hang, refusal

HELD_SECONDS = 1.0
"""How long an event waits for the next one, which is to overtake it."""
EXPIRED = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
Fate = Literal[
    "lost, and the stream ends",
    "doubled",
    "lost, and the stream is reset",
    "told again after the next",
    "lost, and the stream expires",
    "overtaken by the next",
    "lost, and the stream is silent",
    "lost, and the stream goes on",
]


@dataclass(frozen=True)
class Plan:
    """What happens to one event of the operator's watch of a resource, counted from the beginning of the act."""

    resource: str
    event: int
    fate: Fate

    def __str__(self) -> str:
        return f"event {self.event} about {self.resource} is {self.fate}"

    def disturbance(self) -> Disturbance:
        """See disturbed.Plan."""
        return Misfortune(self)


class Misfortune(Disturbance):
    """Plays a plan."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._seen = 0
        self._is_expired = False

    async def instead(self, call: Call, request: web.Request) -> web.StreamResponse | None:
        """Have a stream that expired stay so until the resource is listed."""
        if not self._is_expired or not call.is_operators or call.resource != self._plan.resource:
            return None
        self._is_expired = call.verb != "list"
        return refusal(410) if call.verb == "watch" else None

    async def events(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """See Faults."""
        async for line in lines:
            if not self._is_the_one(call, line):
                yield line
                continue
            async for told in self._instead_of(line, lines):
                yield told
            if self._plan.fate.startswith("lost") and self._plan.fate != "lost, and the stream goes on":
                return

    def _is_the_one(self, call: Call, line: bytes) -> bool:
        if not self.is_armed or not call.is_operators or call.resource != self._plan.resource:
            return False
        self._seen += event_type(line) != "BOOKMARK"
        if self.has_struck or self._seen != self._plan.event:
            return False
        self.has_struck = True
        return True

    async def _instead_of(self, line: bytes, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield what is told in place of the event, and of the next one as far as it is concerned."""
        match self._plan.fate:
            case "doubled":
                yield line
                yield line
            case "told again after the next":
                yield line
                yield await anext(lines)
                yield line
            case "overtaken by the next":
                async for told in self._overtaken(line, lines):
                    yield told
            case "lost, and the stream expires":
                self._is_expired = True
                yield json.dumps(EXPIRED).encode() + b"\n"
            case "lost, and the stream is reset":
                self.proxy.cut({self._plan.resource})
                await hang()
            case "lost, and the stream is silent":
                await hang()
            case _:
                pass

    async def _overtaken(self, line: bytes, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        following = asyncio.ensure_future(anext(lines))
        try:
            await asyncio.wait([following], timeout=HELD_SECONDS)
            self.has_struck = following.done()
            if following.done():
                yield following.result()
                yield line
            else:
                yield line
                yield await following
        finally:
            following.cancel()


def plans(expected: Undisturbed) -> list[Plan]:
    """Return all plans for an act."""
    return [
        Plan(resource, event, fate)
        for resource, count in sorted(expected.told.items())
        for event in range(1, count + 1)
        for fate in get_args(Fate)
    ]
