"""Which events a change of status deserves: one per condition that turned and per warning that came, none for what only
repeats.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from llmservice_operator.cluster.interface import Notice
from llmservice_operator.conditions import ABNORMAL_WHEN_TRUE, ConditionType, Reason

Conditions = Mapping[str, Mapping[str, Any]]

_SAID_BY_OTHERS: Final = frozenset({ConditionType.READY, ConditionType.STALLED})
"""While they are bad, these two repeat the reason of the condition that is at fault."""
_ON_THE_WAY: Final = frozenset(
    {
        Reason.DOWNLOADING,
        Reason.QUANTIZING,
        Reason.VOLUME_PENDING,
        Reason.PENDING,
        Reason.NO_READY_ENDPOINTS,
        Reason.SUSPENDED,
    }
)
"""False, and nothing wrong."""


def notices(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Notice]:
    """Return the events for going from the status `before` to the status `after`: at most one per reason of a
    condition, and the new warnings.
    """
    known, found = _by_type(before), _by_type(after)
    notices: dict[str, Notice] = {}
    for kind in ConditionType:
        now = found.get(kind)
        if now is None or _state(known.get(kind)) == _state(now) or not _is_news(kind, known.get(kind), now):
            continue
        notices.setdefault(now["reason"], _notice(kind, now))
    return [*notices.values(), *_warnings(before, after)]


def _warnings(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Notice]:
    known = before.get("warnings", ())
    for warning in after.get("warnings", ()):
        if warning not in known:
            yield Notice("Warning", warning["reason"], "Warned", warning["message"])


def _by_type(status: Mapping[str, Any]) -> Conditions:
    return {condition["type"]: condition for condition in status.get("conditions", ())}


def _state(condition: Mapping[str, Any] | None) -> tuple[str, str] | None:
    return None if condition is None else (condition["status"], condition["reason"])


def _is_news(kind: ConditionType, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    if now["status"] == "Unknown":
        return False
    if kind in _SAID_BY_OTHERS:
        return kind is ConditionType.READY and now["status"] == "True"
    if kind is ConditionType.DRIFTED and now["status"] == "False":
        return False  # That an hour has passed is no news.
    if before is None or before["status"] == "Unknown":
        # A first look that finds everything in order is no event.
        return _is_trouble(kind, now) or kind is ConditionType.RECONCILING
    return True


def _is_trouble(kind: ConditionType, now: Mapping[str, Any]) -> bool:
    if kind in (ConditionType.PAUSED, ConditionType.RECONCILING, ConditionType.UPDATE_PENDING):
        return False
    is_abnormal = now["status"] == ("True" if kind in ABNORMAL_WHEN_TRUE else "False")
    return is_abnormal and now["reason"] not in _ON_THE_WAY


def _notice(kind: ConditionType, now: Mapping[str, Any]) -> Notice:
    return Notice(
        type="Warning" if _is_trouble(kind, now) else "Normal",
        reason=now["reason"],
        action=f"{kind.value}{now['status']}",
        message=now["message"] or now["reason"],
    )
