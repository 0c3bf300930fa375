"""spec.rollout and spec.observability: how replicas are replaced, and what they write to their log."""

from typing import Annotated, Literal

from pydantic import Field

from llmservice_operator.schema.references import Int32
from llmservice_operator.schema.rules import Structure


class Rollout(Structure):
    """How replicas are replaced when the spec changes: one new replica first, then one old one goes."""

    progress_deadline_seconds: Annotated[Int32, Field(ge=10, le=86400)] = Field(
        1800,
        description="Seconds without progress after which a rollout counts as failed: it stays as it is, the old "
        "replicas serve on, and the conditions Stalled and Degraded say why. Default: 1800. Example: 600.",
    )
    drain_timeout_seconds: Annotated[Int32, Field(ge=0, le=3600)] = Field(
        120,
        description="Seconds that a replica which is told to stop may take to finish the requests it has. Default: "
        "120. Example: 300.",
    )


class Observability(Structure):
    """What replicas tell about themselves."""

    log_format: Literal["JSON", "Text"] = Field(
        "JSON",
        description="Format of the replicas' log lines: JSON for machines, Text for people. Default: JSON. Example: "
        "Text.",
    )
