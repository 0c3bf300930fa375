"""spec.scheduling: on which nodes the pods may run. The profile may allow less than the schema."""

from typing import Annotated, Literal

from pydantic import Field

from llmservice_operator.schema.references import ATOMIC_LIST, Int64
from llmservice_operator.schema.rules import Rule, Structure

PriorityClassName = Annotated[
    str,
    Field(max_length=253),
    Rule(
        "!self.startsWith('system-')",
        "system priority classes cannot be used: they belong to the cluster's own pods",
        holds=lambda self: not self.startswith("system-"),
    ),
]


class Toleration(Structure):
    """A taint that the pods accept, as in a pod's spec."""

    rules = (
        Rule(
            "!self.key.startsWith('node-role.kubernetes.io/') && !self.key.startsWith('node.kubernetes.io/')",
            "control-plane and node-condition taints cannot be tolerated here",
            holds=lambda self: not self.key.startswith(("node-role.kubernetes.io/", "node.kubernetes.io/")),
            field_path=".key",
        ),
        Rule(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "operator Exists takes no value: leave value out, or use operator Equal",
            holds=lambda self: self.operator != "Exists" or not self.value,
            field_path=".value",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds needs effect NoExecute: other effects evict nobody",
            holds=lambda self: self.toleration_seconds is None or self.effect == "NoExecute",
            field_path=".tolerationSeconds",
        ),
    )

    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Key of the taint. Example: nvidia.com/gpu."
    )
    operator: Literal["Exists", "Equal"] | None = Field(
        None, description="Whether the taint's value matters. Default: Equal. Example: Exists."
    )
    value: Annotated[str, Field(max_length=63)] | None = Field(
        None, description="Value of the taint, with operator Equal. Default: empty. Example: present."
    )
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint. Default: every effect. Example: NoSchedule."
    )
    toleration_seconds: Annotated[Int64, Field(ge=0)] | None = Field(
        None,
        description="Seconds that a pod stays after a NoExecute taint appears. Default: without limit. Example: 300.",
    )


class Scheduling(Structure):
    """On which nodes the pods may run. Warm-up and serving pods alike."""

    node_selector: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)] = Field(
        default_factory=dict,
        description="Labels that a node must have; added to the profile's. Default: the profile's nodeSelector. "
        "Example: {nvidia.com/gpu.product: NVIDIA-L4}.",
    )
    tolerations: tuple[Toleration, ...] = Field(
        (),
        max_length=32,
        json_schema_extra=ATOMIC_LIST,
        description="Taints that the pods accept; added to the profile's. Default: the profile's tolerations. "
        "Example: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}].",
    )
    priority_class_name: PriorityClassName | None = Field(
        None,
        description="PriorityClass of the pods. Default: the profile's priorityClassName. Example: inference.",
    )
    runtime_class_name: Annotated[str, Field(max_length=253)] | None = Field(
        None,
        description="RuntimeClass of the serving pods. Default: the profile's runtimeClassName. Example: nvidia.",
    )
