"""What becomes of replicas whose node has trouble: its runtime, its processors, its disk, its kubelet."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rollout.traffic import Tally, traffic
from cluster import node, volumes
from demo import ask, install
from demo.kubectl import Kubectl, condition, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import SERVER, llmservice, own_namespace, reach

# The controller manager gives a node 50 s to say something, and looks every 5 s.
GIVEN_UP_SECONDS = 75

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("breakable")]


@pytest.fixture(scope="module")
def served(installed: Kubectl) -> Iterator[Kubectl]:
    """kubectl in the namespace of a service of two replicas, each with 16 MiB of disk."""
    with own_namespace(installed) as kubectl:
        engine = {"quantization": {"method": "None"}, "batching": {"maxBatchSize": 32}}
        kubectl.apply(llmservice("model", profile="small-disk", replicas=2, engine=engine))
        until_ready(kubectl)
        yield kubectl


async def test_f28_containers_and_their_clients_notice_nothing_when_the_runtime_is_restarted(served: Kubectl) -> None:
    before = containers(served)

    async def disturb() -> None:
        node.kill("containerd")
        await asyncio.sleep(5)
        await asyncio.to_thread(node.up)

    tally = await while_asked(served, disturb())
    assert (dict(tally.failed), dict(tally.truncated)) == ({}, {})
    assert containers(served) == before
    assert is_ready(served.get("llmservice", "model"))
    # The new runtime knows the old containers.
    served.run("exec", server_pods(served)[0]["metadata"]["name"], "--", "true")


async def test_f59_probes_kill_nobody_while_the_processors_are_busy_with_something_else(served: Kubectl) -> None:
    before = containers(served)

    async def disturb() -> None:
        with busy_processors(seconds=30):
            await asyncio.sleep(20)

    tally = await while_asked(served, disturb())
    assert (dict(tally.failed), dict(tally.truncated)) == ({}, {})
    assert containers(served) == before


def test_f29_a_replica_evicted_for_its_use_of_the_disk_is_replaced_and_the_cache_is_as_it_was(served: Kubectl) -> None:
    evicted = server_pods(served)[0]["metadata"]["name"]
    cached, jobs = cached_files(served), uids(served.list("jobs"))
    assert cached
    fill = "open('/tmp/filled', 'wb').write(bytes(64 << 20))"
    served.run("exec", evicted, "--", "python3", "-c", fill)
    wait_for(
        lambda: (served.get("pod", evicted) or {"status": {}})["status"].get("reason") == "Evicted",
        seconds=60,
        what="the kubelet evicts the pod",
    )
    until_ready(served)
    assert len(server_pods(served)) == 2
    assert (cached_files(served), uids(served.list("jobs"))) == (cached, jobs)
    with reach(served, "model") as url:
        for _ in range(10):
            assert ask.answer(f"{url}/generate", {"text": "hello", "max_tokens": 2})["usage"]["completion_tokens"] == 2


async def test_f27_without_a_kubelet_replicas_answer_and_the_status_tells_when_nobody_vouches_for_them(
    served: Kubectl,
) -> None:
    before = containers(served)

    async def disturb() -> None:
        node.kill("kubelet")
        await asyncio.sleep(20)

    tally = await while_asked(served, disturb())
    assert (dict(tally.failed), dict(tally.truncated)) == ({}, {})
    said = wait_for(
        lambda: (ready := condition(served.get("llmservice", "model"), "Ready"))["status"] == "False" and ready,
        seconds=GIVEN_UP_SECONDS,
        what="Ready turns False",
    )
    assert said["reason"] == "ReplicasUnavailable"
    assert "and its node" in said["message"]
    await asyncio.to_thread(node.up)
    until_ready(served)
    assert containers(served) == before


async def while_asked(kubectl: Kubectl, disturbance: Any) -> Tally:
    """Let clients ask the service while the disturbance lasts; return what became of their requests."""
    with reach(kubectl, "model") as url:
        async with traffic(url, install.TINY_REPO, longest_stream_seconds=5) as tally:
            await disturbance
    assert tally.requests > 50
    return tally


@contextmanager
def busy_processors(seconds: int) -> Iterator[None]:
    """Keep every processor busy twice over, for at most that long."""
    spin = ["timeout", str(seconds), "sh", "-c", "while :; do :; done"]
    spinning = [subprocess.Popen(spin) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for process in spinning:
            process.terminate()
            process.wait()


def until_ready(kubectl: Kubectl) -> None:
    wait_for(lambda: is_ready(kubectl.get("llmservice", "model")), seconds=90, what="the service is Ready")


def server_pods(kubectl: Kubectl) -> list[dict[str, Any]]:
    return [pod for pod in kubectl.list("pods", SERVER) if pod["status"]["phase"] == "Running"]


def containers(kubectl: Kubectl) -> dict[str, str]:
    """Return the id of each server's container: another one after a restart."""
    return {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["containerID"] for pod in server_pods(kubectl)
    }


def uids(manifests: list[dict[str, Any]]) -> set[str]:
    return {manifest["metadata"]["uid"] for manifest in manifests}


def cached_files(kubectl: Kubectl) -> dict[str, str]:
    """Return the digest of every file on the volume of the cache, by its path."""
    claim = kubectl.get("persistentvolumeclaim", "model-cache")
    assert claim is not None
    root = volumes.directory() / claim["spec"]["volumeName"]
    return {str(path): _digest(path) for path in sorted(root.rglob("*")) if path.is_file()}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
