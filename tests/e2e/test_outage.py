"""F06, F20: API server, etcd, controllers and scheduler are gone for a while; `make bench-outage` has ten minutes."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.rollout.traffic import traffic
from cluster import node
from demo import install
from demo.kubectl import Kubectl, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import llmservice, reach

OUTAGE_SECONDS = 20
# Until the kubelet asks again, which takes it as long as the outage has lasted, and two replicas one after the other.
ROLLED_OUT_SECONDS = 120


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("breakable")
async def test_clients_notice_nothing_of_an_outage_and_of_the_rollout_right_after_it(kubectl: Kubectl) -> None:
    operator = kubectl.in_namespace(install.OPERATOR_NAMESPACE)

    def change(context: int) -> None:
        engine = {"quantization": {"method": "None"}, "maxModelLen": context, "batching": {"maxBatchSize": 32}}
        kubectl.apply(llmservice("model", profile="fake", replicas=2, engine=engine))
        wait_for(
            lambda: is_ready(kubectl.get("llmservice", "model")),
            seconds=ROLLED_OUT_SECONDS,
            what="the service is Ready",
        )

    change(4096)
    before = running(operator)
    with reach(kubectl, "model") as url:
        async with traffic(url, install.TINY_REPO, longest_stream_seconds=10) as tally:
            # The last one first: a controller that outlives its API server judges nodes by what it saw before.
            node.kill("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")
            await asyncio.sleep(OUTAGE_SECONDS)
            await asyncio.to_thread(node.up)
            await asyncio.to_thread(change, 4097)
    assert tally.requests > 200
    assert (dict(tally.failed), dict(tally.truncated)) == ({}, {})
    assert running(operator) == before


def running(kubectl: Kubectl) -> dict[str, list[int]]:
    """Return how often the containers of each pod were restarted."""
    return {
        pod["metadata"]["uid"]: [status["restartCount"] for status in pod["status"].get("containerStatuses", [])]
        for pod in kubectl.list("pods")
    }
