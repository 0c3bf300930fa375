"""Serving: does anything answer requests? True through a rolling update."""

from llmservice_operator.conditions import Reason
from llmservice_operator.observe.finding import Finding
from llmservice_operator.observe.situation import Situation


def serving(situation: Situation) -> Finding:
    """Return what the condition Serving says, judged by the pods themselves: endpoints follow their readiness."""
    if situation.is_suspended:
        return Finding("False", Reason.SUSPENDED, "No replica is asked for")
    if situation.ready_pods == 0:
        return Finding("False", Reason.NO_READY_ENDPOINTS, "No replica is ready; see Ready for what holds it back")
    return Finding("True", Reason.ENDPOINTS_READY, "At least one replica answers requests")
