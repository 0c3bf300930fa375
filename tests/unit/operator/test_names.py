"""Names of children: derived, within the limits of Kubernetes, the same on every run."""

from dataclasses import dataclass

from llmservice_operator import names

LONGEST = "a" * 45


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


def test_equal_values_have_equal_hashes_in_whatever_order() -> None:
    assert names.short_hash({"a": 1, "b": [2]}) == names.short_hash({"b": [2], "a": 1}) == "0855bfc20e"
    assert names.short_hash({"a": 1}) != names.short_hash({"a": "1"})
