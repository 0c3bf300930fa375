"""Degraded: is something running worse than it should?"""

from llmservice_operator.conditions import ConditionType, Reason
from llmservice_operator.observe.finding import Finding
from llmservice_operator.observe.situation import Situation


def degraded(situation: Situation) -> Finding:
    """Return what the condition Degraded says. A revision that was taken back, or a rollout past its deadline, comes
    first, with its cause in the message.
    """
    trouble = situation.trouble(ConditionType.DEGRADED)
    if situation.is_rolled_back:
        return Finding("True", Reason.ROLLED_BACK, rolled_back(situation))
    if situation.rollout.is_held:
        return Finding("True", Reason.ROLLOUT_HELD, held(situation))
    if trouble is not None:
        return Finding("True", trouble.reason, trouble.message)
    return Finding("False", Reason.AS_EXPECTED, "Nothing runs worse than it should")


def rolled_back(situation: Situation) -> str:
    """Return the message about a revision that was taken back."""
    assert situation.choice is not None
    wanted = situation.choice.wanted
    assert wanted.outcome is not None
    advice = "Remove the annotation, or change the spec" if wanted.outcome.back_to else "Change the spec"
    return f"{advice}: its revision {wanted.name} was taken back: {wanted.outcome.message}"


def held(situation: Situation) -> str:
    """Return the message about a rollout that has passed its deadline."""
    cause = next((f": {trouble.message}" for trouble in situation.troubles), "")
    deadline = situation.llmservice.spec.rollout.progress_deadline_seconds
    return f"Change the spec, or undo the last change: its replicas were not ready within {deadline} s{cause}"
