"""What is odd and holds nothing back: said in the status, and nothing else differs for it."""

from typing import Any

import pytest

from llmservice_operator.manifest import Manifest
from llmservice_operator.observe.warnings import warnings
from tests.support.builders import make_llmservice

KNOWN = "llmservice.dev/apply-update, llmservice.dev/restart, llmservice.dev/retry, llmservice.dev/rollback-to"


def found(**llmservice: Any) -> list[tuple[str, str]]:
    return [(warning["reason"], warning["message"]) for warning in warnings(make_llmservice(**llmservice)) or ()]


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        pytest.param(["restrt"], "llmservice.dev/restrt; did you mean llmservice.dev/restart?", id="misspelt"),
        pytest.param(["owner"], f"llmservice.dev/owner; it knows {KNOWN}", id="made up"),
        pytest.param(
            ["cached", "model", "outcome", "in-place", "applied-hash"],
            "llmservice.dev/applied-hash, llmservice.dev/cached, llmservice.dev/in-place and 2 more; it knows",
            id="ours, but of children",
        ),
    ],
)
def test_c52_annotations_that_begin_like_ours_and_mean_nothing(annotations: list[str], words: str) -> None:
    ((reason, message),) = found(annotations={f"llmservice.dev/{name}": "x" for name in annotations})
    assert reason == "UnknownAnnotation"
    assert message.startswith("Correct or remove annotations that the operator does not know: ")
    assert words in message
    assert len(message) <= 300


def test_annotations_that_are_known_or_others_are_fine() -> None:
    ours = dict.fromkeys(KNOWN.split(", "), "1")
    assert found(annotations={**ours, "example.com/restrt": "1", "kopf.zalando.org/x": "1", "restart": "1"}) == []


@pytest.mark.parametrize(
    ("service", "mode", "reasons"),
    [
        ("LoadBalancer", "Anonymous", ["OpenToEverybody"]),
        ("NodePort", "Anonymous", ["OpenToEverybody"]),
        ("ClusterIP", "Anonymous", []),
        ("LoadBalancer", "APIKey", []),
    ],
)
def test_c58_a_service_that_answers_everybody_outside(service: str, mode: str, reasons: list[str]) -> None:
    auth = {"mode": mode} | ({"apiKeysSecretRef": {"name": "keys"}} if mode == "APIKey" else {})
    told = found(service={"type": service}, auth=auth)
    assert [reason for reason, _ in told] == reasons
    assert all(message.startswith("Set spec.auth.mode to APIKey") for _, message in told)


def test_c65_fields_that_only_the_managed_fields_still_name() -> None:
    engine: Manifest = {".": {}, "f:image": {}, "f:maxModelLen": {}, "f:quantization": {"f:bits": {}}}
    free: Manifest = {"f:scheduling": {"f:nodeSelector": {"f:any.example.com/key": {}}, "f:tolerations": {}}}
    managed = [{"manager": name, "fieldsV1": {"f:spec": {"f:tier": {}, "f:engine": engine, **free}}} for name in "ab"]
    llmservice = make_llmservice()
    metadata = llmservice.metadata.model_copy(update={"managed_fields": tuple(managed)})
    assert warnings(llmservice.model_copy(update={"metadata": metadata})) == [
        {
            "reason": "UnknownField",
            "message": "Leave out fields that this version of the operator does not have and ignores: "
            "spec.engine.image, spec.engine.quantization.bits, spec.tier",
        }
    ]
