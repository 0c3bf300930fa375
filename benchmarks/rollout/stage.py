"""What the benches of this folder put on the cluster, and how they tell what became of the requests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.rollout.traffic import LONGEST_STREAM_SECONDS, TOKENS_PER_SECOND, Tally
from demo import install
from demo.kubectl import Kubectl, Manifest, wait_for
from demo.watch import is_ready

NAME = "model"
PROFILE = "fake"
READY_SECONDS = 300
CONTEXT = 4096
"""Tokens that the service has at first; the longest stream has 3000."""


@contextmanager
def namespace(images: Path, called: str) -> Iterator[Kubectl]:
    """Yield kubectl in a namespace of one bench, on a cluster with the operator of this checkout."""
    references = install.Images.load(images)
    kubectl = Kubectl(f"{called}-{os.getpid()}")
    install.install(kubectl, references, extra_profiles=_profiles(references))
    kubectl.apply(install.namespace(kubectl.namespace))
    try:
        yield kubectl
    finally:
        kubectl.run("delete", "namespace", kubectl.namespace, "--wait=false")


def _profiles(images: install.Images) -> dict[str, Any]:
    profile = install.fake_profile(images)
    profile["env"] |= {"LLMSERVICE_FAKE_TOKENS_PER_SECOND": str(TOKENS_PER_SECOND)}
    return {PROFILE: profile}


@contextmanager
def operator_outside(images: Path, folder: Path) -> Iterator[None]:
    """Stop the operator's pods while the body runs, and write the `config.yaml` of one that runs as a process."""
    operator = Kubectl(install.OPERATOR_NAMESPACE)
    references = install.Images.load(images)
    manifests = install.operator_manifests(references, extra_profiles=_profiles(references))
    (configured,) = [manifest for manifest in manifests if manifest["kind"] == "ConfigMap"]
    (folder / "config.yaml").write_text(configured["data"]["config.yaml"])
    operator.run("scale", "deployment/llmservice-operator", "--replicas=0")
    operator.run("wait", "--for=delete", "pod", "--selector=app.kubernetes.io/name=llmservice-operator")
    try:
        yield
    finally:
        operator.run("scale", "deployment/llmservice-operator", "--replicas=2")


def llmservice(context: int) -> Manifest:
    """Return a service of two replicas; another `context` is another revision."""
    return {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": NAME},
        "spec": {
            "profile": PROFILE,
            "replicas": 2,
            "model": {"source": {"huggingFace": {"repo": install.TINY_REPO}}},
            "engine": {
                "quantization": {"method": "None"},
                "maxModelLen": context,
                "batching": {"maxBatchSize": 32},
            },
            # A client may send its next request on the connection of a stream that began before the drain.
            "rollout": {"drainTimeoutSeconds": 2 * LONGEST_STREAM_SECONDS + 30},
        },
    }


def wait_ready(kubectl: Kubectl, seconds: float = READY_SECONDS) -> None:
    """Return when the service is what its spec says."""
    wait_for(lambda: is_ready(kubectl.get("llmservice", NAME)), seconds=seconds, what="Ready")


def url(kubectl: Kubectl) -> str:
    """Return where the service answers."""
    service = kubectl.get("service", NAME)
    assert service is not None
    return f"http://{service['spec']['clusterIP']}"


def tell(tally: Tally) -> None:
    """Print what was wrong with answers, and how long the streams were."""
    for kind, counts in (("failed", tally.failed), ("truncated", tally.truncated)):
        for text, count in counts.most_common(10):
            print(f"{kind}: {count} x {text}")
    print(f"{tally.streams} long streams, the longest {tally.longest_stream_seconds:.0f} s")
