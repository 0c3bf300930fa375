"""Scheduled: has every pod a node?"""

from llmservice_operator import names
from llmservice_operator.conditions import ConditionType, Reason
from llmservice_operator.diagnosis import pods
from llmservice_operator.observe.finding import Finding, bad, unknown
from llmservice_operator.observe.situation import Situation


def scheduled(situation: Situation) -> Finding:
    """Return what the condition Scheduled says, of serving pods and of a warm-up that is under way."""
    trouble = situation.trouble(ConditionType.SCHEDULED)
    if trouble is not None:
        return bad(trouble)
    serving = pods.server_pods(situation.children)
    existing = serving or [pod for pod in situation.children.pods if not pods.is_over(pod)]
    if not all(pods.is_scheduled(pod) for pod in existing):
        return unknown("Wait: the scheduler has not spoken about every pod yet")
    if not existing and not situation.is_suspended:
        return unknown(f"No pod of {names.KIND} {situation.llmservice.name} exists yet")
    return Finding("True", Reason.ALL_SCHEDULED, "Every pod has a node")
