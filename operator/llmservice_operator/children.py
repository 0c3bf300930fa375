"""What exists around one LLMService, as one immutable snapshot.

The shell fills it from its watches (and, for the few things it reads live, from the API server and the pods); `desired`
and `observe` decide from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmservice_operator.manifest import Manifest


@dataclass(frozen=True)
class Refusal:
    """A write that the API server, or our own guard against foreign objects, refused in this reconcile."""

    kind: str
    name: str
    reason: str
    """`ChildNameConflict`, `RejectedByServer`, `OperatorForbidden` or `QuotaExceeded`."""
    message: str
    """The server's own words, or ours for a name conflict."""


@dataclass(frozen=True)
class Drift:
    """A child that somebody else had changed, and that was put back in this reconcile."""

    kind: str
    name: str
    path: str
    """The first field that differed."""
    manager: str
    """The field manager that changed it."""


@dataclass(frozen=True)
class Children:
    """The objects that one LLMService controls, by the uid in their owner reference, and its retained PVC, by name and
    label.
    """

    deployment: Manifest | None = None
    service: Manifest | None = None
    service_account: Manifest | None = None
    autoscaler: Manifest | None = None
    disruption_budget: Manifest | None = None
    network_policies: tuple[Manifest, ...] = ()
    claims: tuple[Manifest, ...] = ()
    config_maps: tuple[Manifest, ...] = ()
    jobs: tuple[Manifest, ...] = ()
    revisions: tuple[Manifest, ...] = ()
    """ControllerRevisions."""
    pods: tuple[Manifest, ...] = ()
    """Pods of the Deployment and of the Jobs, of every revision."""
    events: tuple[Manifest, ...] = ()
    """Only of troubled PVCs and Jobs and of pods that do not get past ContainerCreating."""
    reports: Mapping[str, Manifest] = field(default_factory=dict)
    """Pod name to what its /internal/v1/state said last; only for progress and load, never for a verdict."""
    refusals: tuple[Refusal, ...] = ()
    drifts: tuple[Drift, ...] = ()
