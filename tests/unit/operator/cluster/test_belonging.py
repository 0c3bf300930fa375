"""Whose is this object, seen from the LLMService default/llama with uid `mine`?"""

from typing import Any

import pytest

from llmservice_operator import names
from llmservice_operator.cluster.belonging import Belonging, belonging, is_pod_of
from llmservice_operator.cluster.resources import CLAIMS, SERVICES, Resource
from llmservice_operator.cluster.store import Entry

OWNER = {"metadata": {"namespace": "default", "name": "llama", "uid": "mine"}}
LABELS = names.labels("llama")


def controlled_by(uid: str, name: str = "llama", kind: str = "LLMService") -> dict[str, Any]:
    return {"ownerReferences": [{"kind": kind, "name": name, "uid": uid, "controller": True}]}


CASES = [
    pytest.param(SERVICES, controlled_by("mine"), None, Belonging.OURS, id="controlled by it"),
    pytest.param(SERVICES, controlled_by("earlier"), "d", Belonging.LEFT_OVER, id="of an earlier one of that name"),
    pytest.param(SERVICES, controlled_by("other", name="b"), "d", Belonging.FOREIGN, id="of another LLMService"),
    pytest.param(SERVICES, controlled_by("x", kind="Helm"), None, Belonging.FOREIGN, id="of another controller"),
    pytest.param(SERVICES, {"labels": LABELS}, "d", Belonging.OURS, id="owner reference removed"),
    pytest.param(SERVICES, {}, "d", Belonging.OURS, id="owner reference and labels removed"),
    pytest.param(SERVICES, {"labels": names.labels("b")}, "d", Belonging.FOREIGN, id="applied for another name"),
    pytest.param(SERVICES, {"labels": LABELS}, None, Belonging.FOREIGN, id="labels alone make nothing ours"),
    pytest.param(CLAIMS, {"labels": LABELS}, None, Belonging.OURS, id="but a claim from a backup"),
    pytest.param(CLAIMS, {}, None, Belonging.FOREIGN, id="a claim of somebody else"),
]


@pytest.mark.parametrize(("resource", "metadata", "digest", "expected"), CASES)
def test_belonging(resource: Resource, metadata: dict[str, Any], digest: str | None, expected: Belonging) -> None:
    assert belonging(OWNER, resource, Entry({"metadata": metadata}, digest)) is expected


def pod(created: str, kind: str, name: str, uid: str = "r") -> dict[str, Any]:
    reference = {"kind": kind, "name": name, "uid": uid, "controller": True}
    labels = {"pod-template-hash": "abc"}
    return {"metadata": {"creationTimestamp": created, "labels": labels, "ownerReferences": [reference]}}


DEPLOYMENT = {"metadata": {"name": "llama", "creationTimestamp": "2026-01-01T00:01:00Z"}}
JOB = {"metadata": {"uid": "job"}}


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        pytest.param(pod("2026-01-01T00:01:00Z", "ReplicaSet", "llama-abc"), True, id="of the Deployment"),
        pytest.param(pod("2026-01-01T00:00:59Z", "ReplicaSet", "llama-abc"), False, id="of an earlier Deployment"),
        pytest.param(pod("2026-01-01T00:02:00Z", "ReplicaSet", "other-abc"), False, id="of another ReplicaSet"),
        pytest.param(pod("2026-01-01T00:00:00Z", "Job", "warmup", uid="job"), True, id="of the Job"),
        pytest.param(pod("2026-01-01T00:00:00Z", "Job", "warmup", uid="earlier"), False, id="of an earlier Job"),
        pytest.param({"metadata": {"labels": LABELS}}, False, id="only labelled like ours"),
    ],
)
def test_pods(candidate: dict[str, Any], expected: bool) -> None:
    assert is_pod_of(candidate, DEPLOYMENT, [JOB]) is expected
