"""The kinds the operator reads and writes, and where the API server serves them."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from llmservice_operator import names


class Key(NamedTuple):
    """Which LLMService: what the work queue holds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Resource:
    """One namespaced kind as the API server serves it."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of the collection, or of one object of it; no namespace means all of them."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        parts = [root]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/".join(parts)


LLMSERVICES: Final = Resource(names.API_VERSION, names.KIND, names.PLURAL)
DEPLOYMENTS: Final = Resource("apps/v1", "Deployment", "deployments")
SERVICES: Final = Resource("v1", "Service", "services")
AUTOSCALERS: Final = Resource("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
CONTROLLER_REVISIONS: Final = Resource("apps/v1", "ControllerRevision", "controllerrevisions")
DISRUPTION_BUDGETS: Final = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICIES: Final = Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
SERVICE_ACCOUNTS: Final = Resource("v1", "ServiceAccount", "serviceaccounts")
CLAIMS: Final = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
CONFIG_MAPS: Final = Resource("v1", "ConfigMap", "configmaps")
JOBS: Final = Resource("batch/v1", "Job", "jobs")
PODS: Final = Resource("v1", "Pod", "pods")
LEASES: Final = Resource("coordination.k8s.io/v1", "Lease", "leases")
CORE_EVENTS: Final = Resource("v1", "Event", "events")
EVENTS: Final = Resource("events.k8s.io/v1", "Event", "events")

CHILDREN: Final = (
    DEPLOYMENTS,
    SERVICES,
    SERVICE_ACCOUNTS,
    AUTOSCALERS,
    CONTROLLER_REVISIONS,
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    CLAIMS,
    CONFIG_MAPS,
    JOBS,
    PODS,
)
"""The kinds that are watched around an LLMService. Pods are only read; their controllers make them."""

_BY_KIND: Final = {resource.kind: resource for resource in (LLMSERVICES, *CHILDREN)}


def of(manifest: dict[str, Any]) -> Resource:
    """Return the resource a manifest belongs to.

    Raises:
        KeyError: the kind is none of ours, which only a bug in `desired` can bring about.
    """
    return _BY_KIND[manifest["kind"]]
