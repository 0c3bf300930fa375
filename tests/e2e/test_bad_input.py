"""What only the world can tell: rows of the bad-input catalogue that need real pods, each with its condition.

Every bad LLMService is applied at once, to one namespace, so that their pods fail side by side.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from demo import ask, install
from demo.kubectl import Kubectl, Manifest, condition, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import llmservice, own_namespace, reach

# A condition follows within 5 s the pod, Job or event that shows the trouble; the rest is the time until it is shown,
# with a dozen pods starting at once on two cores.
SHOWN_SECONDS = 90

pytestmark = pytest.mark.timeout(180)


def secret(name: str, **data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def hub(repo: str, **further: Any) -> Manifest:
    return {"huggingFace": {"repo": repo, **further}}


def gated(secret_name: str) -> Manifest:
    return hub(install.GATED_REPO, tokenSecretRef={"name": secret_name})


# Name, spec, the condition and its reason, and what its message must name.
CASES: list[tuple[str, dict[str, Any], str, str, tuple[str, ...]]] = [
    (
        "c07-revision",
        {"source": hub(install.TINY_REPO, revision="v9")},
        "ModelCached",
        "RevisionNotFound",
        ("v9", install.TINY_REPO),
    ),
    ("c07-repository", {"repo": "llmservice/absent"}, "ModelCached", "ModelNotFound", ("llmservice/absent",)),
    ("c08-no-token", {"repo": install.GATED_REPO}, "ModelCached", "AccessDenied", ("tokenSecretRef",)),
    ("c10-key-missing", {"source": gated("without-key")}, "ConfigurationValid", "SecretKeyInvalid", ("without-key",)),
    ("c10-key-empty", {"source": gated("empty-key")}, "ConfigurationValid", "SecretKeyInvalid", ("token",)),
    ("c22-gpu", {"resources": {"gpu": {"count": 1}}}, "Scheduled", "InsufficientGPU", ("0/1 nodes",)),
    (
        "c22-mig",
        {"resources": {"gpu": {"count": 1, "resourceName": "nvidia.com/mig-1g.10gb"}}},
        "Scheduled",
        "InsufficientGPU",
        ("nvidia.com/mig-1g.10gb",),
    ),
    ("c30-image", {"profile": "broken-image"}, "Degraded", "ImagePullFailed", ("absent",)),
    (
        "c34-node-selector",
        {"scheduling": {"nodeSelector": {"zone": "nowhere"}}},
        "Scheduled",
        "NoMatchingNode",
        ("0/1 nodes",),
    ),
    ("c37-claim", {"cache": {"claimName": "absent"}}, "ModelCached", "VolumeUnusable", ("absent",)),
    (
        "c39-class",
        {"cache": {"storageClassName": "absent"}},
        "ConfigurationValid",
        "StorageClassNotFound",
        ("absent",),
    ),
    (
        "c57-no-keys",
        {"auth": {"mode": "APIKey", "apiKeysSecretRef": {"name": "no-keys"}}},
        "Degraded",
        "AuthSecretInvalid",
        ("Secret of API keys",),
    ),
]


@pytest.fixture(scope="module")
def kubectl(installed: Kubectl) -> Iterator[Kubectl]:
    """kubectl in the namespace that has every case."""
    with own_namespace(installed) as kubectl:
        kubectl.apply(secret("without-key", other="value"), secret("empty-key", token=""), secret("no-keys"))
        kubectl.apply(*(llmservice(name, **{"profile": "fake", **spec}) for name, spec, *_ in CASES))
        yield kubectl


@pytest.mark.parametrize(
    ("name", "condition_type", "reason", "named"),
    [(name, condition_type, reason, named) for name, _, condition_type, reason, named in CASES],
    ids=[name for name, *_ in CASES],
)
def test_the_condition_says_what_is_wrong_and_ready_repeats_it(
    kubectl: Kubectl, name: str, condition_type: str, reason: str, named: tuple[str, ...]
) -> None:
    found = blocked_with(kubectl, name, condition_type, reason)
    assert [word for word in named if word not in found["message"]] == [], found["message"]
    assert condition(kubectl.get("llmservice", name), "Serving").get("status") != "True"


def blocked_with(kubectl: Kubectl, name: str, condition_type: str, reason: str) -> Manifest:
    """Wait for the condition and for Ready to repeat its reason; returns the condition."""

    def shown() -> Any:
        current = kubectl.get("llmservice", name)
        found = condition(current, condition_type)
        return found.get("reason") == reason and condition(current, "Ready").get("reason") == reason and found

    try:
        found: Manifest = wait_for(shown, seconds=SHOWN_SECONDS, what=f"{condition_type} of {name} says {reason}")
    except AssertionError as error:
        status = (kubectl.get("llmservice", name) or {}).get("status")
        raise AssertionError(f"{error}; its status: {status}") from error
    return found


def test_a_model_that_cannot_be_had_asks_for_no_server(kubectl: Kubectl) -> None:
    blocked_with(kubectl, "c07-revision", "ModelCached", "RevisionNotFound")
    assert kubectl.get("deployment", "c07-revision") is None


def test_c09_a_missing_token_secret_heals_within_30_s_of_its_creation(kubectl: Kubectl) -> None:
    kubectl.apply(llmservice("c09", profile="fake", source=gated("hub-token")))
    found = blocked_with(kubectl, "c09", "ConfigurationValid", "SecretNotFound")
    assert "hub-token" in found["message"]
    # With the newline that `kubectl create secret --from-file` leaves (C10).
    kubectl.apply(secret("hub-token", token=f"{install.GATED_TOKEN}\n"))
    created = time.monotonic()
    wait_for(
        lambda: condition(kubectl.get("llmservice", "c09"), "ModelCached").get("status") == "True",
        seconds=60,
        what="the model is cached",
    )
    assert time.monotonic() - created <= 30


def test_api_keys_open_the_service_to_their_tenants_only(kubectl: Kubectl) -> None:
    kubectl.apply(secret("keys", alice="key-of-alice\n", bob="old-key\nnew-key"))
    kubectl.apply(llmservice("keyed", profile="fake", auth={"mode": "APIKey", "apiKeysSecretRef": {"name": "keys"}}))
    wait_for(lambda: is_ready(kubectl.get("llmservice", "keyed")), seconds=90, what="the service is Ready")
    with reach(kubectl, "keyed") as url:
        for key in ("key-of-alice", "old-key", "new-key"):
            assert ask.answer(f"{url}/generate", {"text": "hello", "max_tokens": 2}, key=key)["generated_text"]
        for wrong in (None, "another"):
            with pytest.raises(ask.RequestError) as refused:
                ask.answer(f"{url}/generate", {"text": "hello", "max_tokens": 2}, key=wrong)
            assert refused.value.status == 401
        assert ask.answer(f"{url}/health")
