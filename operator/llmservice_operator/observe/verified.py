"""Verified: does the revision that the spec asks for answer the golden prompts?"""

from llmservice_operator.conditions import REASONS, ConditionType, Reason
from llmservice_operator.diagnosis import pods
from llmservice_operator.observe.finding import Finding, bad
from llmservice_operator.observe.situation import Situation


def verified(situation: Situation) -> Finding:
    """Return what the condition Verified says. A replica is ready only after it has answered."""
    if situation.llmservice.spec.rollout.verification is None:
        return Finding("True", Reason.NOT_CONFIGURED, "No prompts are asked for")
    wanted = None if situation.choice is None else situation.choice.wanted
    if wanted is not None and wanted.outcome is not None and wanted.outcome.reason in _FAILURES:
        return Finding("False", Reason(wanted.outcome.reason), wanted.outcome.message)
    trouble = situation.trouble(ConditionType.VERIFIED)
    if trouble is not None:
        return bad(trouble)
    ready = [pod for pod in pods.server_pods(situation.children) if pods.is_ready(pod)]
    if wanted is not None and (wanted.is_good or any(pods.revision(pod) == wanted.name for pod in ready)):
        return Finding("True", Reason.PROMPTS_PASSED, f"Revision {wanted.name} answers the prompts as expected")
    return Finding("False", Reason.PENDING, "Wait: no replica of the revision asked for has answered the prompts yet")


_FAILURES = REASONS[ConditionType.VERIFIED]["False"]
