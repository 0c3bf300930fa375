"""How far the Deployment is on its way to the revision and the number of replicas that are asked for."""

from dataclasses import dataclass

from llmservice_operator.children import Children
from llmservice_operator.desired.replicas import is_autoscaled
from llmservice_operator.diagnosis import pods
from llmservice_operator.diagnosis.deployments import is_observed, is_past_deadline, live_revision
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService


@dataclass(frozen=True)
class Rollout:
    """Counts of pods and the revisions they are of. The pods decide what is ready; the Deployment, what is finished."""

    wanted_revision: str | None
    """That the Deployment is to have; None while there is no model to load."""
    live_revision: str | None
    """Of the live Deployment's template."""
    current_revision: str | None
    """Of the ready pods: the old one until the rollout is complete; None while no pod is ready."""
    wanted_replicas: int
    replicas: int
    updated_replicas: int
    ready_replicas: int
    is_observed: bool
    """The Deployment's controller has seen what was applied last, so that its counts are about that."""
    is_held: bool
    """The progress deadline has passed."""
    has_right_pods: bool
    """As many ready pods of the wanted revision as are asked for, and none of another."""

    @classmethod
    def of(cls, llmservice: LLMService, children: Children, wanted_revision: str | None) -> "Rollout":
        """Return the state of the rollout to `wanted_revision`."""
        deployment = children.deployment or {}
        status = deployment.get("status", {})
        live = live_revision(children.deployment)
        mine = pods.server_pods(children)
        ready = [pod for pod in mine if pods.is_ready(pod)]
        wanted_replicas = _wanted_replicas(llmservice, deployment)
        is_seen = bool(deployment) and is_observed(deployment)
        return cls(
            wanted_revision=wanted_revision,
            live_revision=live,
            current_revision=_current_revision(ready, wanted_revision),
            wanted_replicas=wanted_replicas,
            replicas=status.get("replicas", 0),
            updated_replicas=status.get("updatedReplicas", 0) if is_seen else 0,
            ready_replicas=status.get("readyReplicas", 0),
            is_observed=is_seen,
            is_held=bool(deployment) and live == wanted_revision and is_past_deadline(deployment),
            has_right_pods=len(ready) == len(mine) == wanted_replicas
            and all(pods.revision(pod) == wanted_revision for pod in mine),
        )

    @property
    def is_current(self) -> bool:
        """Whether the Deployment has the wanted template, and its controller has seen it."""
        return self.is_observed and self.wanted_revision is not None and self.live_revision == self.wanted_revision

    @property
    def is_rolled_out(self) -> bool:
        """Whether every pod is of the wanted revision, ready or not."""
        return self.is_current and self.updated_replicas == self.replicas

    @property
    def is_complete(self) -> bool:
        """Whether what is asked for is there: Deployment and pods agree."""
        return (
            self.is_rolled_out and self.replicas == self.ready_replicas == self.wanted_replicas and self.has_right_pods
        )


def _wanted_replicas(llmservice: LLMService, deployment: Manifest) -> int:
    if llmservice.spec.suspend:
        return 0
    if is_autoscaled(llmservice):
        assert llmservice.spec.scaling is not None
        live: int = deployment.get("spec", {}).get("replicas", llmservice.spec.scaling.min_replicas)
        return live
    return llmservice.spec.replicas


def _current_revision(ready: list[Manifest], wanted: str | None) -> str | None:
    revisions = sorted({pods.revision(pod) or "" for pod in ready})
    others = [revision for revision in revisions if revision != wanted]
    return next(iter(others or revisions), None) or None
