"""How one condition is written."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from llmservice_operator.conditions import REASONS, ConditionType, Reason, condition, is_abnormal, shortened

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def test_a_first_condition_changed_now() -> None:
    entry = condition(
        ConditionType.READY, "True", Reason.ALL_REPLICAS_READY, "2 of 2 ready", generation=4, previous=[], now=NOW
    )
    assert entry == {
        "type": "Ready",
        "status": "True",
        "reason": "AllReplicasReady",
        "message": "2 of 2 ready",
        "observedGeneration": 4,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }


def test_the_transition_time_stays_while_the_status_stays() -> None:
    previous = [
        {"type": "Ready", "status": "False", "reason": "Throttled", "lastTransitionTime": "2025-12-31T00:00:00Z"}
    ]
    same = condition(
        ConditionType.READY, "False", Reason.REPLICAS_NOT_READY, "wait", generation=1, previous=previous, now=NOW
    )
    changed = condition(
        ConditionType.READY, "True", Reason.ALL_REPLICAS_READY, "ready", generation=1, previous=previous, now=NOW
    )
    assert same["lastTransitionTime"] == "2025-12-31T00:00:00Z"
    assert changed["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_times_are_written_in_utc() -> None:
    berlin = NOW.astimezone(timezone(timedelta(hours=1)))
    entry = condition(ConditionType.PAUSED, "False", Reason.NOT_PAUSED, "", generation=1, previous=[], now=berlin)
    assert entry["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_a_reason_of_another_condition_is_our_own_bug() -> None:
    with pytest.raises(AssertionError, match="Serving=True has no reason CrashLoop"):
        condition(ConditionType.SERVING, "True", Reason.CRASH_LOOP, "", generation=1, previous=[], now=NOW)


def test_long_messages_keep_their_beginning() -> None:
    assert shortened("a" * 300) == "a" * 300
    assert shortened("use a smaller model. " + "b" * 400) == "use a smaller model. " + "b" * 278 + "…"
    assert len(shortened("c" * 5000)) == 300


def test_every_reason_belongs_to_a_condition() -> None:
    used = {reason for statuses in REASONS.values() for reasons in statuses.values() for reason in reasons}
    assert used == set(Reason)


def test_ready_and_stalled_know_every_reason_that_can_hold_them_back() -> None:
    blocking = set(REASONS[ConditionType.STALLED]["True"])
    assert blocking <= set(REASONS[ConditionType.READY]["False"])
    for condition_type in (ConditionType.CONFIGURATION_VALID, ConditionType.MODEL_CACHED, ConditionType.SCHEDULED):
        assert set(REASONS[condition_type]["False"]) <= blocking
    assert set(REASONS[ConditionType.DEGRADED]["True"]) <= blocking


@pytest.mark.parametrize(
    ("kind", "status", "reason", "abnormal"),
    [
        ("Ready", "True", "AllReplicasReady", False),
        ("Ready", "False", "RolledBack", True),
        ("Ready", "Unknown", "NotYetObserved", True),
        ("Serving", "False", "NoReadyEndpoints", True),
        ("Serving", "False", "Suspended", False),
        ("Reconciling", "True", "Caching", False),
        ("Stalled", "True", "QuotaExceeded", True),
        ("Degraded", "False", "AsExpected", False),
        ("Degraded", "True", "CrashLoop", True),
        ("Paused", "True", "PausedByUser", True),
    ],
)
def test_what_is_not_as_it_should_be(kind: str, status: str, reason: str, abnormal: bool) -> None:
    assert is_abnormal({"type": kind, "status": status, "reason": reason}) is abnormal
