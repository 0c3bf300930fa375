"""spec.rollout and spec.observability: how replicas are replaced, and what they log."""

from typing import Annotated, Literal

from pydantic import Field

from llmservice_operator.schema.references import Int32
from llmservice_operator.schema.rules import Structure
from llmservice_operator.schema.verification import Verification


class Rollout(Structure):
    """How replicas are replaced when the spec changes. A change whose replicas fail by their own fault is taken
    back."""

    strategy: Literal["Auto", "Surge", "Recreate"] = Field(
        "Auto",
        description="Surge starts a new replica before an old one goes. Auto does the same, and if there is no place "
        "for one replica more within 30 s, lets an old one go first. Recreate stops all old replicas before the first "
        "new one starts. Default: Auto. Example: Surge.",
    )
    progress_deadline_seconds: Annotated[Int32, Field(ge=10, le=86400)] = Field(
        1800,
        description="Seconds without progress after which a rollout counts as failed: it is taken back or held, as "
        "onFailure says, and the conditions Stalled and Degraded say why. The old replicas serve on. Default: 1800. "
        "Example: 600.",
    )
    on_failure: Literal["Rollback", "Hold"] = Field(
        "Rollback",
        description="What becomes of a change whose replicas crash, run out of memory, have no image, fail "
        "verification or are not ready in time. Rollback puts the last good revision back and leaves the change alone "
        "until the spec changes or the annotation llmservice.dev/retry gets a new value; Hold leaves everything as it "
        "is. Missing Secrets, nodes and the like are waited for. Default: Rollback. Example: Hold.",
    )
    revision_history_limit: Annotated[Int32, Field(ge=1, le=20)] = Field(
        5,
        description="Revisions that are kept beside those in use. Default: 5. Example: 10.",
    )
    drain_timeout_seconds: Annotated[Int32, Field(ge=0, le=3600)] = Field(
        120,
        description="Seconds that a replica which is told to stop may take to finish the requests it has. Default: "
        "120. Example: 300.",
    )
    verification: Verification | None = Field(
        None,
        description="Golden prompts: what a new replica must answer before it is ready. A change whose replicas fail "
        "at it is taken back. Default: none. Example: {prompts: [{prompt: What is the capital of France?, "
        "expectAnyOf: [Paris]}]}.",
    )


class Observability(Structure):
    """What replicas tell about themselves."""

    log_format: Literal["JSON", "Text"] = Field(
        "JSON",
        description="Format of the replicas' log lines: JSON for machines, Text for people. Default: JSON. Example: "
        "Text.",
    )
