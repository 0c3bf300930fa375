"""The status of an LLMService that the API server stores but the operator cannot read, as after a change of the CRD."""

from datetime import datetime
from typing import Final

from llmservice_operator.conditions import ConditionType, Phase, Reason, Status, condition
from llmservice_operator.manifest import Manifest

_CONDITIONS: Final[tuple[tuple[ConditionType, Status], ...]] = (
    (ConditionType.READY, "False"),
    (ConditionType.STALLED, "True"),
    (ConditionType.CONFIGURATION_VALID, "False"),
)


def rejection(owner: Manifest, message: str, now: datetime) -> Manifest:
    """Return the status that says so. Whatever runs is left as it is, and nothing more is known about it."""
    generation = owner["metadata"].get("generation", 1)
    previous = owner.get("status", {}).get("conditions", ())
    return {
        "observedGeneration": generation,
        "phase": Phase.FAILED.value,
        "conditions": [
            condition(
                kind,
                status,
                Reason.REJECTED_BY_SERVER,
                f"Correct the spec: {message}",
                generation=generation,
                previous=previous,
                now=now,
            )
            for kind, status in _CONDITIONS
        ],
    }
