"""Who sets the replicas of the Deployment, and how many there are when that is the operator."""

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService


def is_autoscaled(llmservice: LLMService) -> bool:
    """Whether an autoscaler is to set the replicas now."""
    return llmservice.spec.scaling is not None and not llmservice.spec.suspend


def fixed_replicas(llmservice: LLMService, children: Children, *, can_load: bool) -> int | None:
    """Return the replicas that our own field manager holds, or None while an autoscaler does.

    `can_load` says that the model is where its pods look for it; if not, none of them shall hold a GPU in vain. An
    autoscaler that is on its way out still holds them: two hands on one field would fight. Only 0 is stronger,
    because an autoscaler leaves a Deployment of 0 alone.
    """
    if llmservice.spec.suspend or not can_load:
        return 0
    if is_autoscaled(llmservice) or children.autoscaler is not None:
        return None
    return llmservice.spec.replicas


def replicas_handover(llmservice: LLMService, children: Children) -> Manifest | None:
    """Return the partial Deployment that holds the replicas until an autoscaler that is about to come takes them over.

    A second field manager applies it before our own drops the field, because a field that nobody holds falls back to 1.
    Never fewer than run now; and at least `minReplicas`, because an autoscaler does not wake a Deployment of 0.
    """
    scaling = llmservice.spec.scaling
    if scaling is None or llmservice.spec.suspend or children.deployment is None:
        return None
    live = children.deployment["spec"].get("replicas", 1)
    if children.autoscaler is not None and live > 0:
        return None
    replicas = max(scaling.min_replicas, live)
    metadata = {"name": names.deployment(llmservice.name), "namespace": llmservice.namespace}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}}
