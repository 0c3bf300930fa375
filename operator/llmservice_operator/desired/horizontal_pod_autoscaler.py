"""The HorizontalPodAutoscaler, when the spec asks for one."""

from llmservice_operator import names
from llmservice_operator.desired.quantities import canonical
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from llmservice_operator.schema.autoscaling import Metric

SCALE_UP: Manifest = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Percent", "value": 100, "periodSeconds": 60},
        {"type": "Pods", "value": 2, "periodSeconds": 60},
    ],
}
"""At once, but not faster than models load: by 2 replicas or by as many as there are, a minute."""
SCALE_DOWN: Manifest = {
    "stabilizationWindowSeconds": 300,
    "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
}
"""Slowly: a replica that is gone costs a load when it is missed."""


def horizontal_pod_autoscaler(llmservice: LLMService) -> Manifest:
    """Return the autoscaler that sets the replicas of the Deployment."""
    scaling = llmservice.spec.scaling
    assert scaling is not None
    behavior = scaling.behavior.model_dump(by_alias=True, exclude_none=True, mode="json") if scaling.behavior else {}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": names.deployment(llmservice.name)},
        "minReplicas": scaling.min_replicas,
        "maxReplicas": scaling.max_replicas,
        "metrics": [_metric(metric) for metric in scaling.metrics],
        "behavior": {"scaleUp": SCALE_UP, "scaleDown": SCALE_DOWN, **behavior},
    }
    metadata = names.metadata(llmservice, name=names.autoscaler(llmservice.name))
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}


def _metric(metric: Metric) -> Manifest:
    """Return a metric as the autoscaler takes it, the quantities of its target in canonical form."""
    body: Manifest = metric.model_dump(by_alias=True, exclude_none=True, mode="json")
    for source in body.values():
        if isinstance(source, dict):
            target = source["target"]
            target |= {field: canonical(target[field]) for field in ("averageValue", "value") if field in target}
    return body
