"""UpdatePending: would this operator make the pods differently, though nobody has asked for it?"""

from llmservice_operator import names
from llmservice_operator.conditions import Reason
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe.finding import Finding, unknown
from llmservice_operator.observe.situation import Situation


def update_pending(situation: Situation) -> Finding:
    """Return what the condition UpdatePending says."""
    if situation.choice is None:
        return unknown("Not known before there is a model to load")
    fields = summary(situation)
    if fields is None:
        return Finding("False", Reason.UP_TO_DATE, "The pods are as this operator makes them")
    advice = f"nnotate with {names.APPLY_UPDATE_ANNOTATION}=VALUE, a new one, to replace the pods"
    if situation.llmservice.spec.upgrade_policy.mode == "Window":
        message = f"Wait for the window of spec.upgradePolicy, or a{advice} now; it changes {fields}"
        return Finding("True", Reason.WAITING_FOR_WINDOW, message)
    return Finding("True", Reason.OPERATOR_UPGRADED, f"A{advice}; it changes {fields}")


def summary(situation: Situation) -> str | None:
    """Return the fields that would change, or None."""
    pending = None if situation.choice is None else situation.choice.pending_update
    return None if pending is None else ", ".join(pending.fields)


def operator(situation: Situation) -> Manifest | None:
    """Return status.operator, or None while there is nothing to say."""
    fields = summary(situation)
    return None if fields is None else {"pendingSummary": fields}
