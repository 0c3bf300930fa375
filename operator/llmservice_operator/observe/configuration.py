"""ConfigurationValid: can the spec be carried out in this cluster, under this configuration?"""

from llmservice_operator.conditions import ConditionType, Reason
from llmservice_operator.observe.finding import Finding, bad
from llmservice_operator.observe.situation import Situation


def configuration_valid(situation: Situation) -> Finding:
    """Return what the condition ConfigurationValid says."""
    if situation.problems:
        first = situation.problems[0]
        return Finding("False", Reason(first.reason), first.message)
    trouble = situation.trouble(ConditionType.CONFIGURATION_VALID)
    return bad(trouble) if trouble else Finding("True", Reason.VALID, "The spec can be carried out")
