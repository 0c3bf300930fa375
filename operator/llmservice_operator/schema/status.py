"""status: what the operator reports. These classes only describe the CRD; the operator writes and reads plain
manifests.

Nothing is pruned and nothing enumerated, so that operator and CRD may differ by a version.
"""

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field

from llmservice_operator import conditions as known
from llmservice_operator.schema.references import ATOMIC_LIST, Int32, Int64
from llmservice_operator.schema.rules import Structure


class Reported(Structure):
    """A part of the status: fields of a newer operator are kept."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})


class ModelStatus(Reported):
    """The model that is served."""

    ref: str | None = Field(None, description="The model as people name it: the hub's repo, or the claim and path.")
    resolved_revision: str | None = Field(None, description="Commit that the revision was resolved to.")
    digest: str | None = Field(None, description="Digest over all files of the model, as sha256:HEX.")
    quantization: str | None = Field(None, description="Number format of the weights in memory: nf4, fp4, int8, none.")
    size_bytes: Int64 | None = Field(None, description="Bytes of the files that the replicas load.")
    estimated_memory_bytes: Int64 | None = Field(
        None,
        description="Bytes of memory that one replica needs under this spec, computed from the model's headers: of the "
        "GPU, or of the pod where there is none. Absent where the headers were not read.",
    )


class ResourcesStatus(Reported):
    """What the replicas hold."""

    gpus: Int32 | None = Field(None, description="GPUs that all replicas ask for together.")


class CacheStatus(Reported):
    """The cache's volume and what is in it."""

    claim_name: str | None = Field(None, description="PersistentVolumeClaim that holds the model.")
    state: str | None = Field(None, description="Cached, Warming while the warm-up Job is there, or Pending.")
    bytes_done: Int64 | None = Field(None, description="Bytes downloaded so far; present during a download.")
    bytes_total: Int64 | None = Field(None, description="Bytes to download; present during a download.")
    bytes_per_second: Int64 | None = Field(
        None, description="Rate since the download began; present during a download, once there is one."
    )
    seconds_left: Int64 | None = Field(
        None, description="Seconds that the rest of the download takes at that rate; present with it."
    )


class RevisionStatus(Reported):
    """What came of one revision."""

    revision: str = Field(description="Hash of its pod template, as in the pods' label llmservice.dev/revision.")
    result: str = Field(description="Good, when all its replicas were ready; Rejected, when it was taken back.")
    reason: str | None = Field(None, description="Why it was rejected, in one word; docs/conditions.md explains each.")
    time: datetime = Field(description="When that was decided.")


class RolloutStatus(Reported):
    """Which revisions of the pod template there are."""

    current_revision: str | None = Field(None, description="Revision that answers requests.")
    updated_revision: str | None = Field(None, description="Revision that the replicas are being brought to.")
    last_good_revision: str | None = Field(
        None, description="Revision whose replicas were all ready last; a failed change goes back to it."
    )
    rejected_revision: str | None = Field(
        None, description="Revision that the spec asks for and that was taken back; the condition Degraded says why."
    )
    strategy: str | None = Field(
        None,
        description="How old replicas are replaced: Surge, a new one first; InPlace, an old one goes first; Recreate.",
    )
    strategy_reason: str | None = Field(None, description="Why strategy Auto went in place, or why it does not.")
    history: tuple[RevisionStatus, ...] = Field(
        (),
        json_schema_extra=ATOMIC_LIST,
        description="What came of the revisions that are kept, the oldest first.",
    )


class LastFailure(Reported):
    """How the container of a pod ended that failed last; the pod may be gone."""

    reason: str | None = Field(None, description="Why, in one word; docs/conditions.md explains each.")
    message: str | None = Field(None, description="What to do, and the container's own words.")
    pod: str | None = Field(None, description="Name of the pod.")
    container: str | None = Field(None, description="Name of the container: server or warmup.")
    exit_code: Int32 | None = Field(None, description="Its exit code.")
    time: datetime | None = Field(None, description="When it ended.")


class OperatorStatus(Reported):
    """What the operator itself would change."""

    pending_summary: str | None = Field(
        None, description="Fields of the replicas that a pending update would change, in the order of their paths."
    )


class StatusWarning(Reported):
    """One thing that is odd about the LLMService."""

    reason: str = Field(description="What, in one word; docs/conditions.md explains each.")
    message: str = Field(description="What to do, and about what.")


class Condition(Structure):
    """One condition, as in metav1.Condition."""

    type: Annotated[str, Field(max_length=316)] = Field(description="What the condition is about.")
    status: str = Field(json_schema_extra={"enum": ["True", "False", "Unknown"]}, description="True, False or Unknown.")
    observed_generation: Annotated[Int64, Field(ge=0)] | None = Field(
        None, description="metadata.generation that the condition is about."
    )
    last_transition_time: datetime = Field(description="When status changed last.")
    reason: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Why, in one word; docs/conditions.md explains each."
    )
    message: Annotated[str, Field(max_length=32768)] = Field(description="What to do, and about what.")


class LLMServiceStatus(Reported):
    """What the operator reports. For programs: the conditions. For people: phase, readySummary, progress."""

    observed_generation: Int64 = Field(0, description="metadata.generation that this status is about.")
    phase: str | None = Field(None, description="The state in one word, for people.")
    replicas: Int32 | None = Field(None, description="Server pods there are.")
    ready_replicas: Int32 | None = Field(None, description="Server pods that are ready.")
    updated_replicas: Int32 | None = Field(None, description="Server pods of the revision that the spec asks for.")
    ready_summary: str | None = Field(None, description="Ready of wanted replicas, such as 1/2.")
    progress: str | None = Field(None, description="What is under way and how far, such as 'cache 63%, 4m left'.")
    selector: str | None = Field(None, description="Label selector of the server pods, for the scale subresource.")
    url: str | None = Field(None, description="Address inside the cluster.")
    model: ModelStatus | None = Field(None, description="The model that is served.")
    resources: ResourcesStatus | None = Field(None, description="What the replicas hold.")
    cache: CacheStatus | None = Field(None, description="The cache's volume and what is in it.")
    rollout: RolloutStatus | None = Field(None, description="Which revisions of the pod template there are.")
    last_failure: LastFailure | None = Field(None, description="How the container ended that failed last.")
    operator: OperatorStatus | None = Field(None, description="What the operator itself would change.")
    warnings: tuple[StatusWarning, ...] = Field(
        (),
        json_schema_extra=ATOMIC_LIST,
        description="What is odd about the LLMService and holds nothing back; an event tells each once.",
    )
    conditions: tuple[Condition, ...] = Field(
        (),
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "default": [dict(known.NOT_YET_OBSERVED)],
        },
        description="Conditions: Ready, Serving, ConfigurationValid, ModelCached, Scheduled, AutoscalingActive, "
        "Degraded, UpdatePending, Paused; while they are true, Reconciling and Stalled.",
    )
