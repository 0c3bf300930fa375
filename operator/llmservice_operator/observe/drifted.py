"""Drifted: has somebody changed a child by hand lately?"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from llmservice_operator import names
from llmservice_operator.conditions import ConditionType, Reason
from llmservice_operator.observe.finding import Finding
from llmservice_operator.observe.situation import Situation

REMEMBERED: Final = timedelta(hours=1)


def drifted(situation: Situation) -> Finding:
    """Return what the condition Drifted says: true for an hour after a child was put back."""
    if situation.children.drifts:
        found = situation.children.drifts[0]
        advice = f"Change the {names.KIND} instead of its children"
        message = f"{advice}: {found.manager} changed {found.path} of {found.kind} {found.name}; it was put back"
        return Finding("True", Reason.FIELDS_REVERTED, message)
    before = _told(situation.llmservice.status)
    if before is not None and remembered_for(situation.llmservice.status, situation.now) > timedelta():
        return Finding("True", Reason.FIELDS_REVERTED, str(before.get("message", "")))
    return Finding("False", Reason.IN_SYNC, "No child was changed by others within the last hour")


def remembered_for(status: Mapping[str, Any], now: datetime) -> timedelta:
    """Return how much longer the condition stays true, if nothing else happens."""
    before = _told(status)
    if before is None:
        return timedelta()
    return max(datetime.fromisoformat(before["lastTransitionTime"]) + REMEMBERED - now, timedelta())


def _told(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    entries = (entry for entry in status.get("conditions", ()) if entry.get("type") == ConditionType.DRIFTED)
    return next((entry for entry in entries if entry.get("status") == "True" and "lastTransitionTime" in entry), None)
