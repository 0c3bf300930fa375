"""Condition types, reasons and phases of an LLMService, and how one condition is written.

The reasons are API: people alert on them, and docs/conditions.md explains each. `condition` refuses a reason that its
type does not have, so no other can appear. Polarity: Degraded, UpdatePending, Drifted and Paused are abnormal when
True; Reconciling and Stalled exist only while True, so that kstatus, Flux and Helm wait rightly.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Literal

Status = Literal["True", "False", "Unknown"]

MESSAGE_LIMIT: Final = 300
"""Characters of a message: longer ones are cut, so that `kubectl get -o wide` and alerts stay readable."""


class ConditionType(StrEnum):
    """What a condition is about."""

    READY = "Ready"
    SERVING = "Serving"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    CONFIGURATION_VALID = "ConfigurationValid"
    MODEL_CACHED = "ModelCached"
    SCHEDULED = "Scheduled"
    VERIFIED = "Verified"
    AUTOSCALING_ACTIVE = "AutoscalingActive"
    DEGRADED = "Degraded"
    UPDATE_PENDING = "UpdatePending"
    DRIFTED = "Drifted"
    PAUSED = "Paused"


class Phase(StrEnum):
    """The state in one word, for people only: programs read conditions."""

    PENDING = "Pending"
    CACHING = "Caching"
    SCHEDULING = "Scheduling"
    STARTING = "Starting"
    VERIFYING = "Verifying"
    SERVING = "Serving"
    UPDATING = "Updating"
    ROLLING_BACK = "RollingBack"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"
    FAILED = "Failed"
    DELETING = "Deleting"


class Reason(StrEnum):
    """Why a condition has its status."""

    NOT_YET_OBSERVED = "NotYetObserved"
    ALL_REPLICAS_READY = "AllReplicasReady"
    SUSPENDED = "Suspended"
    ROLLOUT_IN_PROGRESS = "RolloutInProgress"
    REPLICAS_NOT_READY = "ReplicasNotReady"

    ENDPOINTS_READY = "EndpointsReady"
    NO_READY_ENDPOINTS = "NoReadyEndpoints"

    CACHING = "Caching"
    SCHEDULING = "Scheduling"
    STARTING = "Starting"
    VERIFYING = "Verifying"
    ROLLING_OUT = "RollingOut"
    ROLLING_BACK = "RollingBack"
    SCALING = "Scaling"
    DELETING = "Deleting"

    VALID = "Valid"
    PROFILE_NOT_FOUND = "ProfileNotFound"
    NOT_ALLOWED_BY_PROFILE = "NotAllowedByProfile"
    ENDPOINT_NOT_ALLOWED = "EndpointNotAllowed"
    SCHEDULE_INVALID = "ScheduleInvalid"
    QUANTIZATION_CONFLICT = "QuantizationConflict"
    MODEL_TOO_LARGE = "ModelTooLarge"
    CONTEXT_TOO_LONG = "ContextTooLong"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, no secret
    SECRET_KEY_INVALID = "SecretKeyInvalid"  # noqa: S105 - a reason, no secret
    STORAGE_CLASS_NOT_FOUND = "StorageClassNotFound"
    RUNTIME_CLASS_NOT_FOUND = "RuntimeClassNotFound"
    PRIORITY_CLASS_NOT_FOUND = "PriorityClassNotFound"
    CHILD_NAME_CONFLICT = "ChildNameConflict"
    REVISION_NOT_KEPT = "RevisionNotKept"
    REJECTED_BY_SERVER = "RejectedByServer"
    OPERATOR_FORBIDDEN = "OperatorForbidden"

    DOWNLOADED = "Downloaded"
    ALREADY_PRESENT = "AlreadyPresent"
    NOT_REQUIRED = "NotRequired"
    DOWNLOADING = "Downloading"
    QUANTIZING = "Quantizing"
    VOLUME_PENDING = "VolumePending"
    VOLUME_UNUSABLE = "VolumeUnusable"
    MODEL_NOT_FOUND = "ModelNotFound"
    REVISION_NOT_FOUND = "RevisionNotFound"
    ACCESS_DENIED = "AccessDenied"
    HUB_UNREACHABLE = "HubUnreachable"
    THROTTLED = "Throttled"
    DIGEST_MISMATCH = "DigestMismatch"
    CACHE_FULL = "CacheFull"
    UNSAFE_FILES = "UnsafeFiles"
    MODEL_INVALID = "ModelInvalid"
    MODEL_UNSUPPORTED = "ModelUnsupported"
    WARMUP_TIMED_OUT = "WarmupTimedOut"
    WARMUP_FAILED = "WarmupFailed"

    ALL_SCHEDULED = "AllScheduled"
    INSUFFICIENT_GPU = "InsufficientGPU"
    INSUFFICIENT_RESOURCES = "InsufficientResources"
    NO_MATCHING_NODE = "NoMatchingNode"
    TAINT_NOT_TOLERATED = "TaintNotTolerated"
    QUOTA_EXCEEDED = "QuotaExceeded"
    POD_SECURITY_DENIED = "PodSecurityDenied"
    UNSCHEDULABLE = "Unschedulable"

    PROMPTS_PASSED = "PromptsPassed"
    NOT_CONFIGURED = "NotConfigured"
    PROMPT_FAILED = "PromptFailed"
    PROMPT_TIMED_OUT = "PromptTimedOut"
    PENDING = "Pending"

    ACTIVE = "Active"
    DISABLED = "Disabled"
    LIMIT_REACHED = "LimitReached"
    METRICS_API_MISSING = "MetricsAPIMissing"
    METRIC_MISSING = "MetricMissing"
    SCALER_FAILED = "ScalerFailed"

    AS_EXPECTED = "AsExpected"
    ROLLED_BACK = "RolledBack"
    ROLLOUT_HELD = "RolloutHeld"
    CRASH_LOOP = "CrashLoop"
    OUT_OF_MEMORY = "OutOfMemory"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    AUTH_SECRET_INVALID = "AuthSecretInvalid"  # noqa: S105 - a reason, no secret
    ENGINE_FAILED = "EngineFailed"
    REPLICAS_UNAVAILABLE = "ReplicasUnavailable"

    OPERATOR_UPGRADED = "OperatorUpgraded"
    WAITING_FOR_WINDOW = "WaitingForWindow"
    UP_TO_DATE = "UpToDate"

    FIELDS_REVERTED = "FieldsReverted"
    IN_SYNC = "InSync"

    PAUSED_BY_USER = "PausedByUser"
    NOT_PAUSED = "NotPaused"


class WarningReason(StrEnum):
    """What is odd about an LLMService and holds nothing back."""

    OPEN_TO_EVERYBODY = "OpenToEverybody"
    UNKNOWN_ANNOTATION = "UnknownAnnotation"
    UNKNOWN_FIELD = "UnknownField"


_INVALID = (
    Reason.PROFILE_NOT_FOUND,
    Reason.NOT_ALLOWED_BY_PROFILE,
    Reason.ENDPOINT_NOT_ALLOWED,
    Reason.SCHEDULE_INVALID,
    Reason.QUANTIZATION_CONFLICT,
    Reason.MODEL_TOO_LARGE,
    Reason.CONTEXT_TOO_LONG,
    Reason.SECRET_NOT_FOUND,
    Reason.SECRET_KEY_INVALID,
    Reason.STORAGE_CLASS_NOT_FOUND,
    Reason.RUNTIME_CLASS_NOT_FOUND,
    Reason.PRIORITY_CLASS_NOT_FOUND,
    Reason.CHILD_NAME_CONFLICT,
    Reason.REVISION_NOT_KEPT,
    Reason.REJECTED_BY_SERVER,
    Reason.OPERATOR_FORBIDDEN,
)
_NOT_CACHED = (
    Reason.DOWNLOADING,
    Reason.QUANTIZING,
    Reason.VOLUME_PENDING,
    Reason.VOLUME_UNUSABLE,
    Reason.MODEL_NOT_FOUND,
    Reason.REVISION_NOT_FOUND,
    Reason.ACCESS_DENIED,
    Reason.HUB_UNREACHABLE,
    Reason.THROTTLED,
    Reason.DIGEST_MISMATCH,
    Reason.CACHE_FULL,
    Reason.UNSAFE_FILES,
    Reason.MODEL_INVALID,
    Reason.MODEL_UNSUPPORTED,
    Reason.WARMUP_TIMED_OUT,
    Reason.WARMUP_FAILED,
)
_NOT_SCHEDULED = (
    Reason.INSUFFICIENT_GPU,
    Reason.INSUFFICIENT_RESOURCES,
    Reason.NO_MATCHING_NODE,
    Reason.TAINT_NOT_TOLERATED,
    Reason.QUOTA_EXCEEDED,
    Reason.POD_SECURITY_DENIED,
    Reason.UNSCHEDULABLE,
)
_NOT_VERIFIED = (Reason.PROMPT_FAILED, Reason.PROMPT_TIMED_OUT)
_DEGRADED = (
    Reason.ROLLED_BACK,
    Reason.ROLLOUT_HELD,
    Reason.CRASH_LOOP,
    Reason.OUT_OF_MEMORY,
    Reason.IMAGE_PULL_FAILED,
    Reason.AUTH_SECRET_INVALID,
    Reason.ENGINE_FAILED,
    Reason.REPLICAS_UNAVAILABLE,
)
_BLOCKING = (*_INVALID, *_NOT_CACHED, *_NOT_SCHEDULED, *_NOT_VERIFIED, *_DEGRADED)

REASONS: Final[Mapping[ConditionType, Mapping[Status, tuple[Reason, ...]]]] = {
    ConditionType.READY: {
        "True": (Reason.ALL_REPLICAS_READY, Reason.SUSPENDED),
        "False": (Reason.ROLLOUT_IN_PROGRESS, Reason.REPLICAS_NOT_READY, Reason.DELETING, *_BLOCKING),
        "Unknown": (Reason.NOT_YET_OBSERVED,),
    },
    ConditionType.SERVING: {
        "True": (Reason.ENDPOINTS_READY,),
        "False": (Reason.NO_READY_ENDPOINTS, Reason.SUSPENDED),
        "Unknown": (Reason.NOT_YET_OBSERVED,),
    },
    ConditionType.RECONCILING: {
        "True": (
            Reason.CACHING,
            Reason.SCHEDULING,
            Reason.STARTING,
            Reason.VERIFYING,
            Reason.ROLLING_OUT,
            Reason.ROLLING_BACK,
            Reason.SCALING,
            Reason.DELETING,
        ),
    },
    ConditionType.STALLED: {"True": _BLOCKING},
    ConditionType.CONFIGURATION_VALID: {
        "True": (Reason.VALID,),
        "False": _INVALID,
        "Unknown": (Reason.NOT_YET_OBSERVED,),
    },
    ConditionType.MODEL_CACHED: {
        "True": (Reason.DOWNLOADED, Reason.ALREADY_PRESENT, Reason.NOT_REQUIRED),
        "False": _NOT_CACHED,
        "Unknown": (Reason.NOT_YET_OBSERVED,),
    },
    ConditionType.SCHEDULED: {
        "True": (Reason.ALL_SCHEDULED,),
        "False": _NOT_SCHEDULED,
        "Unknown": (Reason.NOT_YET_OBSERVED,),
    },
    ConditionType.VERIFIED: {
        "True": (Reason.PROMPTS_PASSED, Reason.NOT_CONFIGURED),
        "False": (*_NOT_VERIFIED, Reason.PENDING),
    },
    ConditionType.AUTOSCALING_ACTIVE: {
        "True": (Reason.ACTIVE, Reason.DISABLED, Reason.LIMIT_REACHED),
        "False": (Reason.METRICS_API_MISSING, Reason.METRIC_MISSING, Reason.SCALER_FAILED),
        "Unknown": (Reason.NOT_YET_OBSERVED,),
    },
    ConditionType.DEGRADED: {"True": _DEGRADED, "False": (Reason.AS_EXPECTED,)},
    ConditionType.UPDATE_PENDING: {
        "True": (Reason.OPERATOR_UPGRADED, Reason.WAITING_FOR_WINDOW),
        "False": (Reason.UP_TO_DATE,),
        "Unknown": (Reason.NOT_YET_OBSERVED,),
    },
    ConditionType.DRIFTED: {"True": (Reason.FIELDS_REVERTED,), "False": (Reason.IN_SYNC,)},
    ConditionType.PAUSED: {"True": (Reason.PAUSED_BY_USER,), "False": (Reason.NOT_PAUSED,)},
}
"""Which reasons each condition type has, for each status. A type without a status never has it."""

ABNORMAL_WHEN_TRUE: Final = frozenset(
    {
        ConditionType.STALLED,
        ConditionType.DEGRADED,
        ConditionType.UPDATE_PENDING,
        ConditionType.DRIFTED,
        ConditionType.PAUSED,
    }
)

NOT_YET_OBSERVED: Final[Mapping[str, Any]] = {
    "type": ConditionType.READY.value,
    "status": "Unknown",
    "reason": Reason.NOT_YET_OBSERVED.value,
    "message": "Waiting for the operator",
    "lastTransitionTime": "1970-01-01T00:00:00Z",
}
"""The condition that the API server gives a new LLMService, so that nothing takes it for current before the operator
saw it."""


def condition(
    condition_type: ConditionType,
    status: Status,
    reason: Reason,
    message: str,
    *,
    generation: int,
    previous: Iterable[Mapping[str, Any]],
    now: datetime,
) -> dict[str, Any]:
    """Return one entry of `status.conditions`.

    `generation` is the one that was looked at, `previous` are the conditions reported last: while the status stays, so
    does its lastTransitionTime. `now` needs a time zone.
    """
    assert reason in REASONS[condition_type].get(status, ()), f"{condition_type}={status} has no reason {reason}"
    return {
        "type": condition_type.value,
        "status": status,
        "reason": reason.value,
        "message": shortened(message),
        "observedGeneration": generation,
        "lastTransitionTime": _last_transition(condition_type, status, previous) or timestamp(now),
    }


def is_abnormal(condition: Mapping[str, Any]) -> bool:
    """Return whether a condition is not as it should be. What moves, and what is suspended, is."""
    if condition["type"] == ConditionType.RECONCILING or condition["reason"] == Reason.SUSPENDED:
        return False
    return bool(condition["status"] != ("False" if condition["type"] in ABNORMAL_WHEN_TRUE else "True"))


def shortened(message: str) -> str:
    """Return `message` within the limit; the beginning stays, because it says what to do."""
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1].rstrip() + "…"


def timestamp(moment: datetime) -> str:
    """Return a moment as Kubernetes writes it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(moment: datetime) -> str:
    """Return a moment as Kubernetes writes it into Events and Leases: UTC, microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _last_transition(
    condition_type: ConditionType, status: Status, previous: Iterable[Mapping[str, Any]]
) -> str | None:
    for entry in previous:
        if entry.get("type") == condition_type and entry.get("status") == status:
            return str(entry["lastTransitionTime"]) if "lastTransitionTime" in entry else None
    return None
