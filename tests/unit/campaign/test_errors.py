"""What the campaign's errors are, seen before any of them is played."""

import pytest

from llmservice_operator.conditions import REASONS, ConditionType, Reason
from tests.campaign.errors import ErrorState, errors
from tests.campaign.fields import SIX_LINES, parsed
from tests.campaign.recoveries import OLD_SPECS

NOT_BY_AN_EDIT = {
    Reason.ROLLOUT_IN_PROGRESS,
    Reason.REPLICAS_NOT_READY,
    Reason.DELETING,
    Reason.DOWNLOADING,
    Reason.QUANTIZING,
}
"""On the way, and no errors."""
NOT_PLAYED = {
    Reason.POD_SECURITY_DENIED,  # Our pods keep to the strictest level, whatever the spec asks for.
    Reason.MODEL_TOO_LARGE,  # The campaign's profiles serve the fake engine, which loads no model.
    Reason.REVISION_NOT_KEPT,  # It is an annotation's.
    Reason.OPERATOR_FORBIDDEN,  # It is about the roles of the operator.
    Reason.WARMUP_TIMED_OUT,  # The shortest time limit is a minute.
}


def _states() -> list[tuple[ErrorState, dict[str, object], dict[str, object]]]:
    return [
        (error, old, error.change(old, number))
        for old in ({**SIX_LINES, **spec} for spec in OLD_SPECS.values())
        for number, error in enumerate(errors())
        if error.fits(old)
    ]


def test_there_are_enough_error_states_and_the_api_takes_the_edit_to_each() -> None:
    states = _states()
    assert len(states) >= 300
    for error, old, edited in states:
        assert parsed(edited) not in (None, parsed(old)), error.name


def test_every_reason_not_to_be_ready_is_played() -> None:
    played = {Reason(error.shown(old)[2]) for error, old, _ in _states() if not error.autoscaling}
    assert played == set(REASONS[ConditionType.READY]["False"]) - NOT_BY_AN_EDIT - NOT_PLAYED


@pytest.mark.parametrize(("on_failure", "expected"), [("Rollback", "RolledBack"), ("Hold", "CrashLoop")])
def test_what_is_a_changes_own_fault_is_taken_back_unless_the_spec_holds_it(on_failure: str, expected: str) -> None:
    crash = next(error for error in errors() if error.name == "server, crash")
    assert crash.shown({"rollout": {"onFailure": on_failure}}) == ("Ready", "False", expected)
