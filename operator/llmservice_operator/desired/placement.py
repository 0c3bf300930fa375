"""Where pods may run: node selector, tolerations, affinity. The warm-up Job and the serving pods share it.

They share it because a volume bound at first use lands where the Job runs, and the pods have to follow.
"""

import copy

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired.effective import Effective
from llmservice_operator.manifest import Manifest, named

CLAIM_LABEL = f"{names.GROUP}/cache-claim"
"""On pods that mount a cache: which one, as a hash, since a claim's name may be longer than a label."""


def claim_labels(claim: str) -> dict[str, str]:
    """Return the label by which pods of one cache volume find each other."""
    return {CLAIM_LABEL: names.short_hash(claim)}


def placement(values: Effective, children: Children, claim: str | None) -> Manifest:
    """Return the part of a pod spec that says where it may run; `claim` is the cache volume it mounts, if it does.

    The scheduler does not hold pods of one ReadWriteOnce volume together when it is a network disk, and a second node
    hangs on attach. So they require each other's host; the first of them satisfies its own rule.
    """
    affinity = copy.deepcopy(values.profile.affinity)
    if claim is not None and _is_bound_to_one_node(claim, values, children):
        terms = affinity.setdefault("podAffinity", {})
        terms["requiredDuringSchedulingIgnoredDuringExecution"] = [
            *terms.get("requiredDuringSchedulingIgnoredDuringExecution", []),
            {"labelSelector": {"matchLabels": claim_labels(claim)}, "topologyKey": "kubernetes.io/hostname"},
        ]
    chosen: Manifest = {
        "nodeSelector": values.node_selector,
        "tolerations": values.tolerations,
        "affinity": affinity,
    }
    return {field: value for field, value in chosen.items() if value}


def _is_bound_to_one_node(claim: str, values: Effective, children: Children) -> bool:
    live = named(children.claims, claim)
    modes = live["spec"]["accessModes"] if live else [values.access_mode]
    return "ReadWriteMany" not in modes
