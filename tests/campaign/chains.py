"""Which changes are made one after another: chains through every leaf field, out from a spec and the same way back.

A chain makes all changes of a few fields that were drawn together, in a drawn order, and then takes them back one by
one. While the operator is held, by `suspend` or `paused`, the next change is made; it shows once that is over.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

from tests.campaign.field_values import VALUES
from tests.campaign.fields import SIX_LINES, Edit, edits
from tests.campaign.scenarios import SPECS

Manifest = dict[str, Any]
FIELDS_IN_A_CHAIN: Final = 6
"""At most, and no chain has fewer than others by more than one."""
ROUNDS: Final = 3
"""In each every field occurs once, beside others and from another spec than in the round before."""
HOLDS: Final = ("suspend", "paused")


@dataclass(frozen=True)
class Step:
    """The spec becomes this. With `hold`, one of HOLDS, nothing starts: then only what was there before is compared."""

    name: str
    spec: Manifest
    hold: str = ""
    is_compared: bool = True


@dataclass(frozen=True)
class Chain:
    """Steps, each from the one before; the first from `base`."""

    base: Manifest
    steps: tuple[Step, ...]


def numbers() -> range:
    """Return the numbers of all chains."""
    return range(ROUNDS * len(_groups(0)))


def chain(number: int) -> Chain:
    """Return one of the chains: the same at every call."""
    groups = _groups(number // len(_groups(0)))
    fields = groups[number % len(groups)]
    hand = [edit for edit in edits() if edit.path in fields]
    random.Random(number).shuffle(hand)
    base = {**SIX_LINES, **list(SPECS.values())[number % len(SPECS)]}
    return Chain(base, tuple(_steps(base, hand)))


def is_possible(before: Manifest, after: Manifest) -> bool:
    """Whether Kubernetes takes the change: a load balancer's class cannot change while the Service is one."""
    services = [spec.get("service", {}) for spec in (before, after)]
    classes = {service.get("loadBalancerClass") for service in services}
    return len(classes) == 1 or any(service.get("type") != "LoadBalancer" for service in services)


def _groups(round_number: int) -> list[list[str]]:
    fields = sorted(VALUES)
    random.Random(round_number).shuffle(fields)
    groups = -(-len(fields) // FIELDS_IN_A_CHAIN)
    return [fields[first::groups] for first in range(groups)]


def _steps(base: Manifest, hand: list[Edit]) -> list[Step]:
    out: list[Step] = []
    visited = [("back to the first spec", base)]
    here, hold = base, ""
    while (edit := _next(here, hand, hold)) is not None:
        hand.remove(edit)
        if edit.path in HOLDS:
            out.append(Step(str(edit), {**here, edit.path: True}, hold=edit.path))
            hold = edit.path
            continue
        after = edit.of(here)
        assert after is not None
        if hold:
            out.append(Step(f"{edit} during {hold}", {**after, hold: True}, hold, is_compared=False))
        out.append(Step(f"{edit}, {hold} over" if hold else str(edit), after))
        visited.append((f"back to {edit}", after))
        here, hold = after, ""
    if hold:
        out.append(Step(f"{hold} over", here))
    return out + [Step(name, spec) for name, spec in reversed(visited[:-1])]


def _next(here: Manifest, hand: list[Edit], hold: str) -> Edit | None:
    for edit in hand:
        after = edit.of(here)
        if after is not None and is_possible(here, after) and not (hold and edit.path in HOLDS):
            return edit
    return None
