"""The NetworkPolicies around the pods of an LLMService, when the spec asks for them.

Replicas load from their volume and need no network, so Offline takes all of it from them. The warm-up has to reach its
hub in every mode; nobody but the operator has to reach it.
"""

from llmservice_operator import names
from llmservice_operator.manifest import Manifest
from llmservice_operator.names import Component
from llmservice_operator.schema import LLMService
from llmservice_operator.settings import Settings


def network_policies(llmservice: LLMService, settings: Settings) -> list[Manifest]:
    """Return a policy for the replicas and one for the warm-up, or none."""
    asked_for = llmservice.spec.network_policy
    if asked_for is None or asked_for.mode == "None":
        return []
    management = _rule(names.MANAGEMENT_PORT, [_namespace(name) for name in settings.management_namespaces])
    requests = _rule(names.SERVING_PORT, _clients(llmservice, asked_for.allow_from_namespaces))
    server = _policy(llmservice, names.SERVER, [requests, management])
    if asked_for.mode == "Offline":
        # Egress without a rule lets nothing out. An empty list of rules would not be stored, and look like drift.
        server["spec"]["policyTypes"] = ["Ingress", "Egress"]
    return [server, _policy(llmservice, names.WARMUP, [management])]


def _policy(llmservice: LLMService, component: Component, ingress: list[Manifest]) -> Manifest:
    name = names.network_policy(llmservice.name, component)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": names.metadata(llmservice, name=name, component=component),
        "spec": {
            "podSelector": {"matchLabels": names.selector(llmservice.name, component)},
            "policyTypes": ["Ingress"],
            "ingress": [rule for rule in ingress if rule.get("from") != []],
        },
    }


def _rule(port: int, peers: list[Manifest] | None) -> Manifest:
    """Return the rule that admits `peers` to a port; None are all, and an empty list is nobody."""
    rule: Manifest = {"ports": [{"port": port, "protocol": "TCP"}]}
    return rule if peers is None else {"from": peers, **rule}


def _clients(llmservice: LLMService, namespaces: tuple[str, ...]) -> list[Manifest] | None:
    """Return who may send requests. What comes in through nodes or load balancers has lost where it came from."""
    if llmservice.spec.service.type != "ClusterIP":
        return None
    return [{"podSelector": {}}, *(_namespace(name) for name in namespaces)]


def _namespace(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
