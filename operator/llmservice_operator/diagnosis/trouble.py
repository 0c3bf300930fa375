"""One thing that is wrong around an LLMService, classified: which reason it has, what to do, and whether it passes by
itself.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from llmservice_operator.conditions import REASONS, ConditionType, Reason

_PASSING = frozenset(
    {
        Reason.DOWNLOADING,
        Reason.QUANTIZING,
        Reason.VOLUME_PENDING,
        Reason.HUB_UNREACHABLE,
        Reason.THROTTLED,
        Reason.REPLICAS_UNAVAILABLE,
    }
)
"""Reasons that ask for patience, or that the operator itself tries again within a minute."""


@dataclass(frozen=True)
class Trouble:
    """A classified trouble. The message begins with what to do; it has no counters and no times."""

    reason: Reason
    message: str
    is_new: bool = False
    """Seen once and perhaps over, like the first restart of a container: not yet something that needs somebody."""

    @property
    def home(self) -> ConditionType:
        """The condition that this reason belongs to."""
        return home(self.reason)

    @property
    def blocks(self) -> bool:
        """Whether nothing will move until somebody acts."""
        return self.reason not in _PASSING and not self.is_new


def home(reason: Reason) -> ConditionType:
    """Return the condition that says `reason` when something is wrong."""
    for kind in (
        ConditionType.CONFIGURATION_VALID,
        ConditionType.MODEL_CACHED,
        ConditionType.SCHEDULED,
        ConditionType.VERIFIED,
    ):
        if reason in REASONS[kind]["False"]:
            return kind
    assert reason in REASONS[ConditionType.DEGRADED]["True"], f"{reason} belongs to no condition"
    return ConditionType.DEGRADED


def of_failure(reason: str, message: str, otherwise: Reason, *, is_new: bool = False) -> Trouble:
    """Return the trouble that a container's own words name; `otherwise` where this operator does not know its
    reason.
    """
    try:
        known = Reason(reason)
        home(known)
    except (ValueError, AssertionError):
        known = otherwise
    # What a model answers greedily is the same the next time, and its time was measured.
    is_final = home(known) is ConditionType.VERIFIED
    words = printable(message) or f"Look at the container's log: it failed with {reason}"
    return Trouble(known, words, is_new and not is_final)


def of_cause(said: str, causes: Iterable[tuple[re.Pattern[str], Reason, str]]) -> Trouble | None:
    """Return the trouble of the first cause whose pattern is in what another component said; its words stay in the
    message, after the advice.
    """
    for pattern, reason, advice in causes:
        if pattern.search(said):
            return Trouble(reason, f"{advice}: {said}")
    return None


def printable(text: str) -> str:
    """Return foreign text on one line, without control characters: it ends up in terminals."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
