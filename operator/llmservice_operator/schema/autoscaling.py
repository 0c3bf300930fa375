"""The metrics and behavior of a HorizontalPodAutoscaler (autoscaling/v2), closed: what is not here cannot be written.

Field by field as in the Kubernetes API. The rules repeat those of its validation, so that a mistake is told when the
LLMService is applied and not later, when the operator writes the autoscaler.
"""

from typing import Annotated, Literal

from pydantic import Field

from llmservice_operator.schema.quantity import PositiveQuantity
from llmservice_operator.schema.references import ATOMIC_LIST, ATOMIC_MAP, Int32
from llmservice_operator.schema.rules import Rule, Structure

MetricName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[^/%]+$")]
LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]


class LabelRequirement(Structure):
    """One requirement on a label."""

    rules = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "operators In and NotIn need values, Exists and DoesNotExist take none",
            holds=lambda self: (self.operator in ("In", "NotIn")) == bool(self.values),
            field_path=".values",
        ),
    )

    key: LabelKey = Field(description="Key of the label. Example: model.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label's value compares with values. Example: In."
    )
    values: tuple[LabelValue, ...] | None = Field(
        None,
        max_length=16,
        json_schema_extra=ATOMIC_LIST,
        description="Values for In and NotIn. Default: none. Example: [gemma].",
    )


class LabelSelector(Structure):
    """Which series of a metric count; all requirements must hold."""

    match_labels: Annotated[dict[str, LabelValue], Field(max_length=16)] | None = Field(
        None, description="Labels with their values. Default: none. Example: {model: gemma}."
    )
    match_expressions: tuple[LabelRequirement, ...] | None = Field(
        None,
        max_length=16,
        json_schema_extra=ATOMIC_LIST,
        description="Requirements on labels. Default: none. Example: [{key: model, operator: In, values: [gemma]}].",
    )


class MetricIdentifier(Structure):
    """A metric's name and, where several series have it, which of them."""

    name: MetricName = Field(
        description="Name of the metric in the metrics API. Example: llmservice_requests_in_flight."
    )
    selector: LabelSelector | None = Field(
        None,
        json_schema_extra=ATOMIC_MAP,
        description="Which series of the metric count. Default: all. Example: {matchLabels: {model: gemma}}.",
    )


class MetricTarget(Structure):
    """The value that the autoscaler holds a metric at."""

    rules = (
        Rule(
            "(self.type == 'Utilization') == has(self.averageUtilization) && "
            "(self.type == 'AverageValue') == has(self.averageValue) && (self.type == 'Value') == has(self.value)",
            "give the one value of the target's type: averageUtilization for Utilization, averageValue for "
            "AverageValue, value for Value",
            holds=lambda self: (
                (self.type == "Utilization") == (self.average_utilization is not None)
                and (self.type == "AverageValue") == (self.average_value is not None)
                and (self.type == "Value") == (self.value is not None)
            ),
        ),
    )

    type: Literal["Utilization", "AverageValue", "Value"] = Field(
        description="What is compared: Utilization in percent of the request, AverageValue per replica, Value as it "
        "is. Example: AverageValue."
    )
    average_utilization: Annotated[Int32, Field(ge=1, le=10000)] | None = Field(
        None, description="For Utilization: percent of the replicas' request, on average. Example: 80."
    )
    average_value: PositiveQuantity | None = Field(
        None, description="For AverageValue: the value per replica, in the metric's unit. Example: 6."
    )
    value: PositiveQuantity | None = Field(
        None, description="For Value: the value altogether, in the metric's unit. Example: 100."
    )


class ResourceMetric(Structure):
    """Use of cpu or memory, from the metrics server."""

    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Name of the resource: cpu or memory. Example: cpu."
    )
    target: MetricTarget = Field(
        description="Utilization or AverageValue to hold. Example: {type: Utilization, averageUtilization: 80}."
    )


class PodsMetric(Structure):
    """A metric of each replica, averaged over the replicas."""

    metric: MetricIdentifier = Field(description="Which metric. Example: {name: llmservice_requests_in_flight}.")
    target: MetricTarget = Field(description="AverageValue to hold. Example: {type: AverageValue, averageValue: 6}.")


class DescribedObject(Structure):
    """The object that a metric describes, in the same namespace."""

    api_version: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        None, description="API version of the object. Default: v1. Example: networking.k8s.io/v1."
    )
    kind: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Kind of the object. Example: Ingress."
    )
    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Name of the object. Example: llama.")


class ObjectMetric(Structure):
    """A metric of one other object."""

    described_object: DescribedObject = Field(
        description="Which object. Example: {apiVersion: networking.k8s.io/v1, kind: Ingress, name: llama}."
    )
    metric: MetricIdentifier = Field(description="Which metric. Example: {name: requests_per_second}.")
    target: MetricTarget = Field(description="Value or AverageValue to hold. Example: {type: Value, value: 100}.")


class ExternalMetric(Structure):
    """A metric from outside the cluster's objects."""

    metric: MetricIdentifier = Field(description="Which metric. Example: {name: queue_depth}.")
    target: MetricTarget = Field(
        description="Value or AverageValue to hold. Example: {type: AverageValue, averageValue: 30}."
    )


class Metric(Structure):
    """One thing that the autoscaler scales on."""

    rules = (
        Rule(
            "(self.type == 'Resource') == has(self.resource) && (self.type == 'Pods') == has(self.pods) && "
            "(self.type == 'Object') == has(self.object) && (self.type == 'External') == has(self.external)",
            "give the one block of the metric's type: resource, pods, object or external",
            holds=lambda self: (
                (self.type == "Resource") == (self.resource is not None)
                and (self.type == "Pods") == (self.pods is not None)
                and (self.type == "Object") == (self.object is not None)
                and (self.type == "External") == (self.external is not None)
            ),
        ),
        Rule(
            "(!has(self.resource) || self.resource.target.type != 'Value') && "
            "(!has(self.pods) || self.pods.target.type == 'AverageValue') && "
            "(!has(self.object) || self.object.target.type != 'Utilization') && "
            "(!has(self.external) || self.external.target.type != 'Utilization')",
            "the target's type does not fit the metric: Resource takes Utilization or AverageValue, Pods "
            "AverageValue, Object and External Value or AverageValue",
            holds=lambda self: (
                (self.resource is None or self.resource.target.type != "Value")
                and (self.pods is None or self.pods.target.type == "AverageValue")
                and (self.object is None or self.object.target.type != "Utilization")
                and (self.external is None or self.external.target.type != "Utilization")
            ),
        ),
    )

    type: Literal["Resource", "Pods", "Object", "External"] = Field(
        description="Where the metric comes from: Resource (cpu or memory), Pods (each replica), Object (another "
        "object), External. Example: Pods."
    )
    resource: ResourceMetric | None = Field(
        None,
        description="For type Resource. Example: {name: cpu, target: {type: Utilization, averageUtilization: 80}}.",
    )
    pods: PodsMetric | None = Field(
        None,
        description="For type Pods. Example: {metric: {name: llmservice_requests_in_flight}, target: {type: "
        "AverageValue, averageValue: 6}}.",
    )
    object: ObjectMetric | None = Field(
        None,
        description="For type Object. Example: {describedObject: {kind: Service, name: llama}, metric: {name: "
        "requests}, target: {type: Value, value: 100}}.",
    )
    external: ExternalMetric | None = Field(
        None,
        description="For type External. Example: {metric: {name: queue_depth}, target: {type: AverageValue, "
        "averageValue: 30}}.",
    )


class ScalingPolicy(Structure):
    """One limit on the speed of scaling."""

    type: Literal["Pods", "Percent"] = Field(
        description="Whether value counts replicas or percent of the replicas there are. Example: Pods."
    )
    value: Annotated[Int32, Field(ge=1)] = Field(
        description="How much may change within a period, in replicas or percent. Example: 2."
    )
    period_seconds: Annotated[Int32, Field(ge=1, le=1800)] = Field(description="The period in seconds. Example: 60.")


class ScalingRules(Structure):
    """The speed of scaling in one direction. What is left out is as in Kubernetes."""

    stabilization_window_seconds: Annotated[Int32, Field(ge=0, le=3600)] | None = Field(
        None,
        description="Seconds of past recommendations that count: scaling up takes the lowest, scaling down the "
        "highest of them. Default: 0 up, 300 down. Example: 600.",
    )
    select_policy: Literal["Max", "Min", "Disabled"] | None = Field(
        None,
        description="Which policy wins: the one that allows most (Max) or least (Min); Disabled stops this "
        "direction. Default: Max. Example: Min.",
    )
    policies: tuple[ScalingPolicy, ...] | None = Field(
        None,
        min_length=1,
        max_length=16,
        json_schema_extra=ATOMIC_LIST,
        description="Limits on the speed. Default: as in Kubernetes. Example: [{type: Pods, value: 1, periodSeconds: "
        "120}].",
    )


class Behavior(Structure):
    """How fast the autoscaler follows its metrics, as in a HorizontalPodAutoscaler."""

    scale_up: ScalingRules | None = Field(
        None,
        description="Speed of adding replicas. Default: at once, by at most the larger of 2 replicas and 100% a "
        "minute. Example: {policies: [{type: Pods, value: 4, periodSeconds: 60}]}.",
    )
    scale_down: ScalingRules | None = Field(
        None,
        description="Speed of removing replicas. Default: one replica every 2 minutes after 5 minutes of less load. "
        "Example: {stabilizationWindowSeconds: 600}.",
    )
