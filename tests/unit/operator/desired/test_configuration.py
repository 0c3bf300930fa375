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
    "modelImages": ["registry.example.com/models/*"],
    "maxReplicas": 2,
}


LISTED = ["https://models.example.com", "http://files.example.com/models"]


# C17, C33, C36, C20
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


# C05
@pytest.mark.parametrize("endpoint", ["http://169.254.169.254", "https://huggingface.co.evil.example", "http://hub"])
def test_an_endpoint_off_the_list_is_refused(endpoint: str) -> None:
    found = problems(make_llmservice(source={"huggingFace": {"repo": "a/b", "endpoint": endpoint}}), make_settings())
    assert [problem.reason for problem in found] == ["EndpointNotAllowed"]


def test_a_listed_endpoint_is_allowed_with_or_without_a_slash_at_the_end() -> None:
    settings = make_settings(allowedEndpoints=["https://huggingface.co", "http://hub.models:8000/"])
    source = {"huggingFace": {"repo": "a/b", "endpoint": "http://hub.models:8000"}}
    assert problems(make_llmservice(source=source), settings) == ()


# C05
@pytest.mark.parametrize(
    "url",
    [
        "http://models.example.com/a.tar",
        "https://models.example.com:8443/a.tar",
        "https://models.example.com.evil.example/a.tar",
        "http://169.254.169.254/latest/meta-data",
        "http://files.example.com/private/a.tar",
        "http://files.example.com/models/../private/a.tar",
        "http://files.example.com/models/%2E%2e/private/a.tar",
    ],
)
def test_a_url_that_lies_below_no_listed_address_is_refused(url: str) -> None:
    settings = make_settings(allowedEndpoints=[*LISTED, "https://huggingface.co"])
    (problem,) = problems(make_llmservice(source={"http": {"url": url, "sha256": "ab" * 32}}), settings)
    assert problem.reason == "EndpointNotAllowed"
    assert f"{url} is not among {', '.join(LISTED)}" in problem.message


@pytest.mark.parametrize("url", ["https://models.example.com/a.tar", "http://files.example.com/models/b/a.tar?x=1"])
def test_a_url_below_a_listed_address_is_allowed(url: str) -> None:
    settings = make_settings(allowedEndpoints=[*LISTED, "https://huggingface.co"])
    assert problems(make_llmservice(source={"http": {"url": url, "sha256": "ab" * 32}}), settings) == ()


def test_the_query_of_a_url_is_not_shown() -> None:
    source = {"http": {"url": "https://models.example.com/a.tar?signature=secret", "sha256": "ab" * 32}}
    (problem,) = problems(make_llmservice(source=source), make_settings())
    assert "secret" not in problem.message


# C05
@pytest.mark.parametrize(
    ("source", "field", "address"),
    [
        ({"region": "eu-west-1"}, "region", "https://s3.eu-west-1.amazonaws.com"),
        ({"endpoint": "http://minio.storage:9000"}, "endpoint", "http://minio.storage:9000"),
    ],
)
def test_a_bucket_is_only_asked_for_at_a_listed_address(source: dict[str, str], field: str, address: str) -> None:
    llmservice = make_llmservice(source={"s3": {"uri": "s3://models/tiny", **source}})
    (problem,) = problems(llmservice, make_settings())
    assert problem.reason == "EndpointNotAllowed"
    assert f"spec.model.source.s3.{field}" in problem.message
    assert problems(llmservice, make_settings(allowedEndpoints=["https://huggingface.co", address])) == ()


# C29
@pytest.mark.parametrize(
    ("reference", "reasons"),
    [
        ("registry.example.com/models/gemma:270m", []),
        ("registry.example.com/others/gemma", ["NotAllowedByProfile"]),
        ("registry.example.com.evil.example/models/gemma", ["NotAllowedByProfile"]),
        ("gemma", ["NotAllowedByProfile"]),
    ],
)
def test_only_images_of_the_list_are_mounted(reference: str, reasons: list[str]) -> None:
    llmservice = make_llmservice(source={"image": {"reference": reference}})
    assert [problem.reason for problem in problems(llmservice, make_settings(profile={"allow": ALLOW}))] == reasons
    assert problems(llmservice, make_settings()) == ()
