"""Deleting needs nobody's help: there is no finalizer, so a namespace goes also while the operator is stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from demo import install
from demo.kubectl import Kubectl, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import llmservice

GONE_SECONDS = 30
KINDS = "deployments,replicasets,pods,services,configmaps,jobs,horizontalpodautoscalers,persistentvolumeclaims"
OURS = "app.kubernetes.io/managed-by=llmservice-operator"
# The namespace controller starts after 5 s, looks again after half of a pod's grace period (drain and 5 s), and once
# more 8 s later for the volume: 5 + 13 + 8 with this drain. With 30 s these add up to 31.
DRAIN = {"drainTimeoutSeconds": 20}


@pytest.fixture
def operator(installed: Kubectl) -> Iterator[Kubectl]:
    """kubectl in the operator's namespace; the operator runs again when the test is over."""
    kubectl = installed.in_namespace(install.OPERATOR_NAMESPACE)
    yield kubectl
    kubectl.run("scale", "deployment/llmservice-operator", "--replicas=2")
    kubectl.run("rollout", "status", "deployment/llmservice-operator", "--timeout=60s")


def ready(kubectl: Kubectl, name: str) -> None:
    wait_for(lambda: is_ready(kubectl.get("llmservice", name)), seconds=90, what=f"{name} is Ready")


def test_a_deleted_service_leaves_only_its_retained_volume(kubectl: Kubectl) -> None:
    kubectl.apply(llmservice("goes", profile="fake", rollout=DRAIN))
    kubectl.apply(llmservice("stays", profile="fake", rollout=DRAIN, cache={"reclaimPolicy": "Retain"}))
    ready(kubectl, "goes")
    ready(kubectl, "stays")
    kubectl.run("delete", "llmservice", "goes", "stays")
    wait_for(
        lambda: [item["metadata"]["name"] for item in kubectl.list(KINDS, OURS)] == ["stays-cache"],
        seconds=GONE_SECONDS,
        what="only the retained volume is left",
    )


@pytest.mark.timeout(180)
def test_a_namespace_goes_while_the_operator_is_stopped(installed: Kubectl, operator: Kubectl) -> None:
    installed.apply(install.namespace("e2e-goes"))
    kubectl = installed.in_namespace("e2e-goes")
    kubectl.apply(llmservice("model", profile="fake", rollout=DRAIN))
    ready(kubectl, "model")
    operator.run("scale", "deployment/llmservice-operator", "--replicas=0")
    operator.run("wait", "--for=delete", "pod", "--selector=app.kubernetes.io/name=llmservice-operator")
    started = time.monotonic()
    installed.run("delete", "namespace", "e2e-goes", "--wait=true", timeout_seconds=90)
    assert time.monotonic() - started <= GONE_SECONDS
