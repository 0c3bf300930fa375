"""The PodDisruptionBudget, when the spec asks for one."""

from llmservice_operator import names
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService


def pod_disruption_budget(llmservice: LLMService) -> Manifest:
    """Return the budget that evictions of replicas are counted against.

    A replica that is not ready serves nobody, so it never keeps a node from being drained.
    """
    disruption = llmservice.spec.disruption
    assert disruption is not None
    spec = {
        "maxUnavailable": disruption.max_unavailable,
        "selector": {"matchLabels": names.selector(llmservice.name)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    metadata = names.metadata(llmservice, name=names.disruption_budget(llmservice.name))
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}
