"""Parsing an LLMService: defaults, what a newer version may have stored, and what a fault's message says."""

from datetime import UTC, datetime

import pytest

from llmservice_operator.schema import InvalidLLMService, parse
from tests.support.builders import make_llmservice


def test_six_lines_get_every_default_of_the_schema() -> None:
    llmservice = parse(
        {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": "gemma", "namespace": "team-a", "uid": "u1", "generation": 3},
            "spec": {"model": {"source": {"huggingFace": {"repo": "google/gemma-3-270m"}}}},
        }
    )
    assert (llmservice.name, llmservice.namespace, llmservice.uid, llmservice.generation) == (
        "gemma",
        "team-a",
        "u1",
        3,
    )
    assert llmservice.spec.model_dump(by_alias=True, exclude_none=True, exclude_defaults=False) == {
        "suspend": False,
        "paused": False,
        "replicas": 1,
        "profile": "default",
        "model": {"source": {"huggingFace": {"repo": "google/gemma-3-270m", "revision": "main"}}},
        "engine": {"quantization": {"method": "Auto", "computeDtype": "Auto", "doubleQuant": True}, "batching": {}},
        "resources": {"gpu": {}, "requests": {}, "limits": {}},
        "scheduling": {"nodeSelector": {}, "tolerations": ()},
        "cache": {"reclaimPolicy": "Delete", "warmup": {}},
        "service": {
            "type": "ClusterIP",
            "port": 80,
            "sessionAffinity": "None",
            "annotations": {},
            "loadBalancerSourceRanges": (),
        },
        "rollout": {
            "strategy": "Auto",
            "progressDeadlineSeconds": 1800,
            "onFailure": "Rollback",
            "revisionHistoryLimit": 5,
            "drainTimeoutSeconds": 120,
        },
        "upgradePolicy": {"mode": "Manual"},
        "observability": {"logFormat": "JSON"},
    }


def test_fields_of_a_newer_version_are_ignored() -> None:
    llmservice = parse(
        {
            "metadata": {"name": "a", "namespace": "b", "uid": "c", "managedFields": []},
            "spec": {"model": {"source": {"pvc": {"claimName": "models"}}, "adapters": []}, "gateway": {"replicas": 2}},
        }
    )
    assert llmservice.spec.model.source.pvc is not None
    assert not hasattr(llmservice.spec, "gateway")


def test_a_deletion_and_the_last_status_are_kept() -> None:
    llmservice = parse(
        {
            "metadata": {
                "name": "a",
                "namespace": "b",
                "uid": "c",
                "deletionTimestamp": "2026-01-02T03:04:05Z",
                "annotations": {"llmservice.dev/restart": "1"},
            },
            "spec": {"model": {"source": {"pvc": {"claimName": "models"}}}},
            "status": {"phase": "Serving"},
        }
    )
    assert llmservice.metadata.deletion_timestamp == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert llmservice.metadata.annotations == {"llmservice.dev/restart": "1"}
    assert llmservice.status == {"phase": "Serving"}


def test_quantities_that_yaml_reads_as_numbers_become_text() -> None:
    llmservice = parse(
        {
            "metadata": {"name": "a", "namespace": "b", "uid": "c"},
            "spec": {
                "model": {"source": {"pvc": {"claimName": "models"}}},
                "resources": {"requests": {"cpu": 2, "memory": "4Gi"}},
            },
        }
    )
    assert llmservice.spec.resources.requests == {"cpu": "2", "memory": "4Gi"}


def test_a_fault_names_every_field_and_what_is_wrong_with_it() -> None:
    with pytest.raises(InvalidLLMService) as refusal:
        parse(
            {
                "metadata": {"name": "a", "namespace": "b", "uid": "c"},
                "spec": {
                    "replicas": -1,
                    "model": {"source": {"pvc": {"claimName": "models", "path": "../x"}}},
                    "scheduling": {"tolerations": [{"key": "a"}, {"key": "node-role.kubernetes.io/control-plane"}]},
                },
            }
        )
    assert str(refusal.value) == (
        "spec.replicas: Input should be greater than or equal to 0; "
        "spec.model.source.pvc.path: path must stay inside the volume: leave '..' out; "
        "spec.scheduling.tolerations[1]: control-plane and node-condition taints cannot be tolerated here"
    )


def test_c53_a_value_too_long_to_be_copied_into_children_still_counts() -> None:
    short, long, other = "x" * 253, "x" * 200_000, "x" * 200_000 + "y"
    values = [make_llmservice(annotations={"a": value}).metadata.annotations["a"] for value in (short, long, other)]
    assert values[0] == short
    assert len(set(values)) == 3
    assert all(len(value) < 300 for value in values)
