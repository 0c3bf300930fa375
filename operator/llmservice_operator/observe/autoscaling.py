"""AutoscalingActive: does the autoscaler, if one is asked for, get its metrics and do its work?"""

from llmservice_operator.conditions import Reason
from llmservice_operator.diagnosis.trouble import printable
from llmservice_operator.manifest import Manifest, condition
from llmservice_operator.observe.finding import Finding, unknown
from llmservice_operator.observe.situation import Situation

_NO_METRICS_API = ("could not find the requested resource", "no matches for kind", "no custom metrics API")
"""What client-go says where the aggregated API of a kind of metrics is not served; it asks first which version of the
custom one is.
"""


def autoscaling_active(situation: Situation) -> Finding:
    """Return what the condition AutoscalingActive says, mostly in the autoscaler's own words."""
    scaling = situation.llmservice.spec.scaling
    if scaling is None:
        return Finding("True", Reason.DISABLED, "Add spec.scaling for an autoscaler; until then spec.replicas holds")
    if situation.llmservice.spec.suspend:
        return Finding("True", Reason.DISABLED, "Nothing is scaled while spec.suspend is true")
    autoscaler = situation.children.autoscaler or {}
    able = condition(autoscaler, "AbleToScale")
    if not able:
        return unknown("Wait: the autoscaler has not looked yet")
    if able["status"] == "False":
        return _failed(Reason.SCALER_FAILED, "Look at the HorizontalPodAutoscaler", able)
    active = condition(autoscaler, "ScalingActive")
    if not active:
        # What it does first is to bring the replicas within its bounds, and for that it needs no metrics.
        return unknown("Wait: the autoscaler has not looked at its metrics yet")
    if active.get("status") == "False" and active.get("reason") != "ScalingDisabled":
        return _without_metrics(active)
    limited = condition(autoscaler, "ScalingLimited")
    if limited.get("status") == "True" and limited.get("reason") == "TooManyReplicas":
        return Finding(
            "True", Reason.LIMIT_REACHED, f"Raise spec.scaling.maxReplicas: {scaling.max_replicas} are running"
        )
    bounds = f"between {scaling.min_replicas} and {scaling.max_replicas} replicas"
    return Finding("True", Reason.ACTIVE, f"The autoscaler holds {bounds}; spec.replicas is ignored")


def _without_metrics(active: Manifest) -> Finding:
    said = active.get("message", "")
    if any(words in said for words in _NO_METRICS_API):
        return _failed(Reason.METRICS_API_MISSING, "Install the metrics server or the adapter of these metrics", active)
    return _failed(Reason.METRIC_MISSING, "Check spec.scaling.metrics and whether the pods export them", active)


def _failed(reason: Reason, advice: str, said: Manifest) -> Finding:
    return Finding("False", reason, f"{advice}: {printable(said.get('message', ''))}")
