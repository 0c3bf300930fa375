"""Names of children: derived, within the limits of Kubernetes, the same on every run."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from llmservice_operator import names
from llmservice_operator.names import Component

LONGEST = "a" * 45
HASHES = ("0123456789", "abcdef0123")
COMPONENTS: tuple[Component, ...] = (names.SERVER, names.WARMUP)


@dataclass(frozen=True)
class Owner:
    name: str = "gemma"
    namespace: str = "team-a"
    uid: str = "u1"


def test_the_metadata_of_a_child_names_its_place_its_labels_and_its_controller() -> None:
    assert names.metadata(Owner()) == {
        "name": "gemma",
        "namespace": "team-a",
        "labels": {
            "app.kubernetes.io/name": "llmservice",
            "app.kubernetes.io/instance": "gemma",
            "app.kubernetes.io/component": "server",
            "app.kubernetes.io/managed-by": "llmservice-operator",
        },
        "ownerReferences": [
            {
                "apiVersion": "llmservice.dev/v1alpha1",
                "kind": "LLMService",
                "name": "gemma",
                "uid": "u1",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def test_a_retained_claim_has_no_owner() -> None:
    assert "ownerReferences" not in names.metadata(Owner(), name=names.cache_claim("gemma"), owned=False)


def test_the_selector_is_part_of_the_labels_of_its_component_only() -> None:
    server, warmup = names.selector("gemma"), names.selector("gemma", names.WARMUP)
    assert server.items() <= names.labels("gemma").items()
    assert not server.items() <= names.labels("gemma", names.WARMUP).items()
    assert warmup.items() <= names.labels("gemma", names.WARMUP).items()


def test_the_longest_names_fit_into_a_label() -> None:
    key = names.short_hash("anything")
    derived = [
        names.deployment(LONGEST),
        names.service(LONGEST),
        names.autoscaler(LONGEST),
        names.config_map(LONGEST, key),
        names.warmup_job(LONGEST, key),
        names.cache_claim(LONGEST),
        names.cache_claim(LONGEST, key),
    ]
    assert max(len(name) for name in derived) == 63


def children_of(name: str) -> Iterator[tuple[str, str]]:
    """Yield kind and name of every child that the LLMService `name` may have, for two hashes of each sort."""
    yield "Deployment", names.deployment(name)
    yield "Service", names.service(name)
    yield "ServiceAccount", names.service_account(name)
    yield "HorizontalPodAutoscaler", names.autoscaler(name)
    yield "PodDisruptionBudget", names.disruption_budget(name)
    yield "ConfigMap", names.proven(name)
    yield "PersistentVolumeClaim", names.cache_claim(name)
    for component in COMPONENTS:
        yield "NetworkPolicy", names.network_policy(name, component)
    for content in HASHES:
        yield "ConfigMap", names.config_map(name, content)
        yield "ControllerRevision", names.controller_revision(name, content)
        yield "Job", names.warmup_job(name, content)
        yield "PersistentVolumeClaim", names.cache_claim(name, content)


def test_c42_no_two_llmservices_have_a_child_of_one_name_however_they_are_called() -> None:
    """The names are made of the very words that children's names end with, so that they meet if any can."""
    words = ("a", "cache", "config", "llmservice", "proven", "server", "warmup", "abcdef0123")
    called = ["-".join(parts) for length in (1, 2, 3, 4) for parts in itertools.product(words, repeat=length)]
    owners: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name in called:
        if len(name) <= len(LONGEST):
            for child in children_of(name):
                owners[child].add(name)
    assert {child: names for child, names in owners.items() if len(names) > 1} == {}
    assert max(len(child) for _, child in owners) <= 63


def test_equal_values_have_equal_hashes_in_whatever_order() -> None:
    assert names.short_hash({"a": 1, "b": [2]}) == names.short_hash({"b": [2], "a": 1}) == "0855bfc20e"
    assert names.short_hash({"a": 1}) != names.short_hash({"a": "1"})
