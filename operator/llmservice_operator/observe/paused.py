"""Paused: does the operator keep its hands off?"""

from llmservice_operator.conditions import Reason
from llmservice_operator.observe.finding import Finding
from llmservice_operator.observe.situation import Situation


def paused(situation: Situation) -> Finding:
    """Return what the condition Paused says."""
    if situation.llmservice.spec.paused:
        return Finding("True", Reason.PAUSED_BY_USER, "Set spec.paused to false to have changes carried out again")
    return Finding("False", Reason.NOT_PAUSED, "Changes are carried out")
