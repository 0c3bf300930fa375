"""What only the operator's configuration can refuse."""

from typing import Any

import pytest

from llmservice_operator.desired.configuration import problems
from tests.support.builders import make_llmservice, make_settings
from tests.support.specs import SCALING

ALLOW: dict[str, Any] = {
    "serviceTypes": ["ClusterIP"],
    "serviceAnnotationKeys": ["service.example.com/*"],
    "nodeSelectorKeys": ["pool"],
    "tolerationKeys": [],
    "priorityClasses": ["inference"],
    "runtimeClasses": ["nvidia"],
    "storageClasses": ["fast"],
    "gpuResourceNames": ["nvidia.com/gpu"],
    "maxReplicas": 2,
}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"service": {"type": "NodePort"}, "auth": {"mode": "Anonymous"}}, "spec.service.type"),
        ({"service": {"annotations": {"other.example.com/x": "1"}}}, "spec.service.annotations"),
        ({"scheduling": {"nodeSelector": {"zone": "a"}}}, "spec.scheduling.nodeSelector"),
        ({"scheduling": {"tolerations": [{"key": "gpu"}]}}, "spec.scheduling.tolerations"),
        ({"scheduling": {"priorityClassName": "high"}}, "spec.scheduling.priorityClassName"),
        ({"scheduling": {"runtimeClassName": "kata"}}, "spec.scheduling.runtimeClassName"),
        ({"cache": {"storageClassName": "slow"}}, "spec.cache.storageClassName"),
        ({"resources": {"gpu": {"resourceName": "amd.com/gpu"}}}, "spec.resources.gpu.resourceName"),
        ({"replicas": 3}, "spec.replicas"),
        ({"scaling": {**SCALING, "maxReplicas": 3}}, "spec.scaling.maxReplicas"),
        ({"resources": {"limits": {"memory": "1Ki"}}}, "spec.resources.requests.memory"),
    ],
)
def test_a_profile_refuses_what_it_does_not_list(spec: dict[str, Any], field: str) -> None:
    found = problems(make_llmservice(**spec), make_settings(profile={"allow": ALLOW}))
    assert [problem.reason for problem in found][:1] == ["NotAllowedByProfile"]
    assert field in found[0].message


@pytest.mark.parametrize(
    "spec",
    [
        {"service": {"annotations": {"service.example.com/internal": "true"}}},
        {"scheduling": {"nodeSelector": {"pool": "a"}, "priorityClassName": "inference", "runtimeClassName": "nvidia"}},
        {"cache": {"storageClassName": "fast"}, "replicas": 2},
    ],
)
def test_a_profile_allows_what_it_lists(spec: dict[str, Any]) -> None:
    assert problems(make_llmservice(**spec), make_settings(profile={"allow": ALLOW})) == ()


def test_a_misspelt_profile_is_told_the_nearest() -> None:
    (problem,) = problems(make_llmservice(profile="cpus"), make_settings())
    assert (problem.reason, problem.message) == (
        "ProfileNotFound",
        "Change spec.profile: there is no profile 'cpus'; did you mean 'cpu'?",
    )


@pytest.mark.parametrize("endpoint", ["http://169.254.169.254", "https://huggingface.co.evil.example", "http://hub"])
def test_an_endpoint_off_the_list_is_refused(endpoint: str) -> None:
    found = problems(make_llmservice(source={"huggingFace": {"repo": "a/b", "endpoint": endpoint}}), make_settings())
    assert [problem.reason for problem in found] == ["EndpointNotAllowed"]


def test_a_listed_endpoint_is_allowed_with_or_without_a_slash_at_the_end() -> None:
    settings = make_settings(allowedEndpoints=["https://huggingface.co", "http://hub.models:8000/"])
    source = {"huggingFace": {"repo": "a/b", "endpoint": "http://hub.models:8000"}}
    assert problems(make_llmservice(source=source), settings) == ()
