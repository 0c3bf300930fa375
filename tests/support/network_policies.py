"""What a network plugin makes of NetworkPolicies: an evaluator of the rules that Kubernetes' API reference states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A pod of a namespace, or, without a namespace, an address outside of the cluster."""

    namespace: str | None
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "203.0.113.7"


def allows(policies: Sequence[Manifest], source: Peer, target: Peer, port: int) -> bool:
    """Whether a TCP connection from `source` to a port of `target` is let out and let in."""
    return _passes(policies, "Egress", source, target, port) and _passes(policies, "Ingress", target, source, port)


def _passes(policies: Sequence[Manifest], direction: str, pod: Peer, other: Peer, port: int) -> bool:
    """Whether the policies that select `pod` in this direction, if any, let it talk to `other`: one rule is enough."""
    about = [policy["spec"] for policy in policies if _is_about(policy, direction, pod)]
    if not about:
        return True
    rules = [rule for spec in about for rule in spec.get(direction.lower(), [])]
    peers = "from" if direction == "Ingress" else "to"
    return any(_has_port(rule, port) and _has_peer(rule.get(peers), pod, other) for rule in rules)


def _is_about(policy: Manifest, direction: str, pod: Peer) -> bool:
    spec = policy["spec"]
    return (
        policy["metadata"]["namespace"] == pod.namespace
        and direction in spec["policyTypes"]
        and _matches(spec["podSelector"], pod.labels)
    )


def _has_port(rule: Manifest, port: int) -> bool:
    ports = rule.get("ports")
    return not ports or any(entry["port"] == port and entry.get("protocol", "TCP") == "TCP" for entry in ports)


def _has_peer(peers: Sequence[Manifest] | None, pod: Peer, other: Peer) -> bool:
    """An absent or empty list is everybody."""
    return not peers or any(_is(peer, pod, other) for peer in peers)


def _is(peer: Manifest, pod: Peer, other: Peer) -> bool:
    if "ipBlock" in peer:
        return other.namespace is None and ip_address(other.address) in ip_network(peer["ipBlock"]["cidr"])
    if other.namespace is None:
        return False
    if "namespaceSelector" in peer:
        of_namespace = {"kubernetes.io/metadata.name": other.namespace}
        is_there = _matches(peer["namespaceSelector"], of_namespace)
    else:
        is_there = other.namespace == pod.namespace
    return is_there and _matches(peer.get("podSelector", {}), other.labels)


def _matches(selector: Manifest, labels: Mapping[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}, "the evaluator knows no expressions"
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
