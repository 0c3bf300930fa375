"""What only the world can tell: rows of the bad-input catalogue that need real pods, each with its condition."""

from __future__ import annotations

import time
from typing import Any

import pytest

from demo import ask, install
from demo.kubectl import Kubectl, condition, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import llmservice

# "Within 5 s of the pod, Job or event that shows it": the rest is the time until the pod has shown it.
SHOWN_SECONDS = 40


def blocked_with(
    kubectl: Kubectl, name: str, condition_type: str, reason: str, *, seconds: float = SHOWN_SECONDS
) -> Any:
    """Wait for the condition, and see that Ready repeats it; returns the condition."""

    def shown() -> Any:
        current = kubectl.get("llmservice", name)
        found = condition(current, condition_type)
        return found.get("reason") == reason and condition(current, "Ready").get("reason") == reason and found

    try:
        return wait_for(shown, seconds=seconds, what=f"{condition_type} of {name} has reason {reason}")
    except AssertionError as error:
        raise AssertionError(f"{error}; status: {(kubectl.get('llmservice', name) or {}).get('status')}") from error


def secret(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def hub_source(repo: str, **further: Any) -> dict[str, Any]:
    return {"huggingFace": {"repo": repo, **further}}


def test_c07_a_revision_that_does_not_exist(kubectl: Kubectl) -> None:
    kubectl.apply(llmservice("model", profile="fake", source=hub_source(install.TINY_REPO, revision="v9")))
    found = blocked_with(kubectl, "model", "ModelCached", "RevisionNotFound")
    assert "v9" in found["message"]
    assert kubectl.get("deployment", "model") is None


def test_c07_a_repository_that_does_not_exist(kubectl: Kubectl) -> None:
    kubectl.apply(llmservice("model", profile="fake", repo="llmservice/absent"))
    assert "llmservice/absent" in blocked_with(kubectl, "model", "ModelCached", "ModelNotFound")["message"]


def test_c08_a_gated_model_without_a_token(kubectl: Kubectl) -> None:
    kubectl.apply(llmservice("model", profile="fake", repo=install.GATED_REPO))
    assert "tokenSecretRef" in blocked_with(kubectl, "model", "ModelCached", "AccessDenied")["message"]


@pytest.mark.timeout(180)
def test_c09_a_missing_token_secret_heals_within_30_s_of_its_creation(kubectl: Kubectl) -> None:
    source = hub_source(install.GATED_REPO, tokenSecretRef={"name": "hub-token"})
    kubectl.apply(llmservice("model", profile="fake", source=source))
    assert "hub-token" in blocked_with(kubectl, "model", "ConfigurationValid", "SecretNotFound")["message"]
    # The hub's token with the newline that `kubectl create secret --from-file` leaves (C10).
    kubectl.apply(secret("hub-token", token=f"{install.GATED_TOKEN}\n"))
    created = time.monotonic()
    wait_for(
        lambda: condition(kubectl.get("llmservice", "model"), "ModelCached").get("status") == "True",
        seconds=60,
        what="the model is cached",
    )
    assert time.monotonic() - created <= 30


@pytest.mark.parametrize("data", [{"other": "value"}, {"token": ""}], ids=["missing", "empty"])
def test_c10_a_token_key_that_is_missing_or_empty(kubectl: Kubectl, data: dict[str, str]) -> None:
    kubectl.apply(secret("hub-token", **data))
    source = hub_source(install.GATED_REPO, tokenSecretRef={"name": "hub-token"})
    kubectl.apply(llmservice("model", profile="fake", source=source))
    found = blocked_with(kubectl, "model", "ConfigurationValid", "SecretKeyInvalid")
    assert "hub-token" in found["message"]
    assert "token" in found["message"]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        pytest.param({"resources": {"gpu": {"count": 1}}}, "InsufficientGPU", id="C22-gpu"),
        pytest.param(
            {"resources": {"gpu": {"count": 1, "resourceName": "nvidia.com/mig-1g.10gb"}}},
            "InsufficientGPU",
            id="C22-mig",
        ),
        pytest.param({"scheduling": {"nodeSelector": {"zone": "nowhere"}}}, "NoMatchingNode", id="C34"),
    ],
)
def test_c22_c34_what_no_node_offers(kubectl: Kubectl, spec: dict[str, Any], reason: str) -> None:
    kubectl.apply(llmservice("model", profile="fake", **spec))
    assert "0/1 nodes" in blocked_with(kubectl, "model", "Scheduled", reason)["message"]


def test_c30_an_image_that_does_not_exist(kubectl: Kubectl) -> None:
    kubectl.apply(llmservice("model", profile="broken-image"))
    found = blocked_with(kubectl, "model", "Degraded", "ImagePullFailed")
    assert "absent" in found["message"]


def test_c37_a_shared_cache_claim_that_is_missing(kubectl: Kubectl) -> None:
    kubectl.apply(llmservice("model", profile="fake", cache={"claimName": "absent"}))
    assert "absent" in blocked_with(kubectl, "model", "ModelCached", "VolumeUnusable")["message"]


def test_c39_a_storage_class_that_is_missing(kubectl: Kubectl) -> None:
    kubectl.apply(llmservice("model", profile="fake", cache={"storageClassName": "absent"}))
    assert "absent" in blocked_with(kubectl, "model", "ConfigurationValid", "StorageClassNotFound")["message"]


@pytest.mark.timeout(180)
def test_c57_an_empty_secret_of_api_keys_never_serves_openly(kubectl: Kubectl) -> None:
    kubectl.apply(secret("keys"))
    kubectl.apply(llmservice("model", profile="fake", auth={"mode": "APIKey", "apiKeysSecretRef": {"name": "keys"}}))
    blocked_with(kubectl, "model", "Degraded", "AuthSecretInvalid", seconds=90)
    assert condition(kubectl.get("llmservice", "model"), "Serving")["status"] == "False"


@pytest.mark.timeout(180)
def test_api_keys_open_the_service_to_their_tenants_only(kubectl: Kubectl) -> None:
    kubectl.apply(secret("keys", alice="key-of-alice\n", bob="old-key\nnew-key"))
    kubectl.apply(llmservice("model", profile="fake", auth={"mode": "APIKey", "apiKeysSecretRef": {"name": "keys"}}))
    wait_for(lambda: is_ready(kubectl.get("llmservice", "model")), seconds=90, what="the service is Ready")
    url = f"http://{(kubectl.get('service', 'model') or {})['spec']['clusterIP']}"
    for key in ("key-of-alice", "old-key", "new-key"):
        assert ask.answer(f"{url}/generate", {"text": "hello", "max_tokens": 2}, key=key)["generated_text"]
    for wrong in (None, "another"):
        with pytest.raises(ask.RequestError) as refused:
            ask.answer(f"{url}/generate", {"text": "hello", "max_tokens": 2}, key=wrong)
        assert refused.value.status == 401
    assert ask.answer(f"{url}/health")
