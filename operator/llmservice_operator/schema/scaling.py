"""spec.scaling: an autoscaler instead of a fixed number of replicas."""

from typing import Annotated, Literal

from pydantic import Field

from llmservice_operator.schema.autoscaling import Behavior, Metric
from llmservice_operator.schema.references import ATOMIC_LIST, Int32
from llmservice_operator.schema.rules import Rule, Structure


def _names_cpu_or_memory(metric: Metric) -> bool:
    return metric.type != "Resource" or (metric.resource is not None and metric.resource.name in ("cpu", "memory"))


class Scaling(Structure):
    """An autoscaler sets the number of replicas; spec.replicas is then ignored."""

    rules = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            "minReplicas must not exceed maxReplicas",
            holds=lambda self: self.min_replicas <= self.max_replicas,
            field_path=".minReplicas",
        ),
        Rule(
            "self.metrics.all(m, m.type != 'Resource' || (has(m.resource) && m.resource.name in ['cpu', 'memory']))",
            "a Resource metric can only be cpu or memory: no metrics API serves GPU resources; use a Pods, Object "
            "or External metric",
            holds=lambda self: all(_names_cpu_or_memory(metric) for metric in self.metrics),
            field_path=".metrics",
        ),
    )

    provider: Literal["HPA"] = Field(
        description="Who scales: HPA is a HorizontalPodAutoscaler (autoscaling/v2) on the metrics named here. "
        "Example: HPA."
    )
    min_replicas: Annotated[Int32, Field(ge=1, le=100)] = Field(
        1, description="Fewest replicas. Default: 1. Example: 2."
    )
    max_replicas: Annotated[Int32, Field(ge=1, le=100)] = Field(
        description="Most replicas. The profile may set a lower bound. Example: 5."
    )
    metrics: tuple[Metric, ...] = Field(
        min_length=1,
        max_length=8,
        json_schema_extra=ATOMIC_LIST,
        description="What the HorizontalPodAutoscaler scales on, as in its spec.metrics; the metric that asks for "
        "most replicas wins. Example: [{type: Pods, pods: {metric: {name: "
        "llmservice_requests_in_flight}, target: {type: AverageValue, averageValue: 6}}}].",
    )
    behavior: Behavior | None = Field(
        None,
        description="How fast the HorizontalPodAutoscaler scales up and down, as in its spec.behavior. Default: up "
        "at once by at most the larger of 2 replicas and 100% a minute, down by one replica every 2 "
        "minutes after 5 minutes of less load. Example: {scaleDown: {stabilizationWindowSeconds: 600}}.",
    )
