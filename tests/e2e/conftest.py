"""A cluster with the operator and the model hub on it; `make e2e` enters its network and runs these tests.

KUBECONFIG names the cluster, LLMSERVICE_IMAGES the file with the image references, LLMSERVICE_AUDIT_LOG (our own
cluster only) the API server's audit log.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster import node
from demo import install
from demo.__main__ import service_url
from demo.kubectl import Kubectl, Manifest, wait_for
from demo.models import ARCHIVE, HUB_MODELS

SCARCE_RESOURCE = "llmservice.test/gpu"
"""Profile "scarce" asks for one of these; a test gives the node as many as it is to have."""
SERVER = "app.kubernetes.io/component=server"
"""Selects the servers, pods and Deployment."""
_numbers = itertools.count()


@pytest.fixture(scope="session")
def images() -> install.Images:
    return install.Images.load(Path(os.environ["LLMSERVICE_IMAGES"]))


@pytest.fixture(scope="session")
def installed(images: install.Images) -> Kubectl:
    """kubectl on a cluster that has operator and hub, in the versions of this checkout."""
    kubectl = Kubectl()
    fake = install.fake_profile(images)
    profiles = {
        "fake": fake,
        "crashing": fake | {"env": {**fake["env"], "LLMSERVICE_LOG_LEVEL": "loud"}},
        "hungry": fake | {"env": {**fake["env"], "LLMSERVICE_FAKE_BYTES_PER_TOKEN": str(2**26)}},
        "endless": fake | {"env": {**fake["env"], "LLMSERVICE_FAKE_LOAD_SECONDS": "3600"}},
        "broken-image": fake | {"image": f"{images.gateway.rsplit(':', 1)[0]}:absent"},
        "small-disk": fake | {"limits": {**fake["limits"], "ephemeral-storage": "16Mi"}},
        "scarce": fake | {"gpu": {"count": 1, "resourceName": SCARCE_RESOURCE}},
    }
    install.install(kubectl, images, extra_profiles=profiles)
    return kubectl


@contextmanager
def own_namespace(installed: Kubectl) -> Iterator[Kubectl]:
    """Yield kubectl in a new namespace, which enforces Pod Security "restricted"."""
    name = f"e2e-{os.getpid()}-{next(_numbers)}"
    installed.apply(install.namespace(name))
    yield installed.in_namespace(name)
    # Not waited for: pods that drain would hold up the next test, which has a namespace of its own.
    installed.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
def kubectl(installed: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a namespace of the test's own."""
    with own_namespace(installed) as kubectl:
        yield kubectl


@pytest.fixture
def breakable(installed: Kubectl) -> Iterator[None]:
    """Skip on a cluster that is not ours to break; what a test has killed runs again after it."""
    if "LLMSERVICE_AUDIT_LOG" not in os.environ:
        pytest.skip("programs of the node are killed only on our own cluster")
    yield
    node.up()
    until_a_new_service_is_reached(installed.in_namespace(install.HUB_NAMESPACE))


def until_a_new_service_is_reached(hub: Kubectl) -> None:
    """Wait until kube-proxy and the DNS server have noticed that the API server is back.

    Both ask again up to a minute after an outage; until then nobody reaches a Service that was made after it.
    """
    name = f"new-{next(_numbers)}"
    hub.run("expose", "deployment/hub", f"--name={name}", "--port=80", "--target-port=http")
    connect = f"import socket; socket.create_connection(({name!r}, 80), 2)"
    wait_for(
        lambda: hub.attempt("exec", "deployment/hub", "--", "python3", "-c", connect).returncode == 0,
        seconds=120,
        what="a new Service is reached by its name",
    )
    hub.delete("service", name)


def reach(kubectl: Kubectl, name: str) -> AbstractContextManager[str]:
    """Yield the URL of a Service: its own address in our cluster's network, a forwarded port of another cluster."""
    return service_url(kubectl, name, forward="LLMSERVICE_AUDIT_LOG" not in os.environ)


def llmservice(name: str, *, repo: str = install.TINY_REPO, profile: str = "default", **spec: Any) -> Manifest:
    """Return an LLMService of the hub's model `repo`; keywords are further fields of the spec."""
    source = spec.pop("source", {"huggingFace": {"repo": repo}})
    if profile != "default":
        # The fake engine loads no weights, so its warm-up need not import torch to quantize any.
        spec.setdefault("engine", {"quantization": {"method": "None"}})
    return {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": name},
        "spec": {"profile": profile, "model": {"source": source}, **spec},
    }


def archived(digest: str | None = None, **spec: Any) -> Manifest:
    """Return an LLMService of the archive that the hub's server has beside its models; keywords are
    further fields of the spec.
    """
    sha256 = hashlib.sha256((HUB_MODELS / ARCHIVE).read_bytes()).hexdigest()
    repo, _, name = ARCHIVE.rpartition("/")
    url = f"{install.HUB_ENDPOINT}/{repo}/resolve/main/{name}"
    model = {"source": {"http": {"url": url, "sha256": sha256}}, **({"digest": digest} if digest else {})}
    return llmservice("archived", profile="fake", model=model, **spec)
