"""spec.disruption: how many replicas the cluster may take away at once, as when it drains a node."""

from typing import Annotated, Any

from pydantic import Field

from llmservice_operator.schema.rules import Structure

_PERCENT = r"^([1-9][0-9]?|100)%$"


def _int_or_percent(schema: dict[str, Any]) -> None:
    schema["x-kubernetes-int-or-string"] = True
    schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    # For the integers; a string is held to the pattern.
    schema["minimum"] = 1
    schema["maximum"] = 100
    schema["pattern"] = _PERCENT


IntOrPercent = Annotated[
    Annotated[int, Field(strict=True, ge=1, le=100)] | Annotated[str, Field(strict=True, pattern=_PERCENT)],
    Field(json_schema_extra=_int_or_percent),
]
"""A number of pods, or a share of them such as "25%"; never none, which would keep a node from ever being drained."""


class Disruption(Structure):
    """A PodDisruptionBudget for the replicas."""

    max_unavailable: IntOrPercent = Field(
        description="How many replicas may be missing while nodes are drained: a number, or a percentage of the "
        "replicas, rounded up. Replicas that are not ready may always be evicted. Example: 1."
    )
