"""A change of the spec replaces every replica, and nobody who sends requests notices."""

from __future__ import annotations

import asyncio
import json

import pytest

from benchmarks.rollout.traffic import traffic
from demo import install
from demo.kubectl import Kubectl, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import SCARCE_RESOURCE, SERVER, llmservice, reach

BATCHING = {"batching": {"maxBatchSize": 32}}


def _engine(context: int) -> dict[str, object]:
    return {"quantization": {"method": "None"}, "maxModelLen": context, **BATCHING}


@pytest.mark.timeout(300)
async def test_no_request_fails_and_no_answer_is_cut_short_during_a_rollout(kubectl: Kubectl) -> None:
    def change(context: int) -> None:
        drain = {"drainTimeoutSeconds": 90}
        kubectl.apply(llmservice("model", profile="fake", replicas=2, rollout=drain, engine=_engine(context)))
        wait_for(lambda: is_ready(kubectl.get("llmservice", "model")), seconds=120, what="the service is Ready")

    change(4096)
    with reach(kubectl, "model") as url:
        async with traffic(url, install.TINY_REPO, longest_stream_seconds=20) as tally:
            await asyncio.to_thread(change, 4097)
    assert tally.requests > 200
    assert (dict(tally.failed), dict(tally.truncated)) == ({}, {})


@pytest.mark.timeout(240)
def test_with_no_gpu_to_spare_the_new_replica_takes_the_place_of_the_old_one(kubectl: Kubectl) -> None:
    (node,) = kubectl.list("nodes")
    path = "/status/capacity/" + SCARCE_RESOURCE.replace("/", "~1")

    def have(operation: str) -> None:
        patch = [{"op": operation, "path": path, **({"value": "1"} if operation == "add" else {})}]
        text = json.dumps(patch)
        kubectl.run("patch", "node", node["metadata"]["name"], "--subresource=status", "--type=json", f"--patch={text}")

    have("add")
    try:
        kubectl.apply(llmservice("model", profile="scarce", engine=_engine(4096)))
        wait_for(lambda: is_ready(kubectl.get("llmservice", "model")), seconds=90, what="the service is Ready")
        (before,) = kubectl.list("pods", SERVER)
        kubectl.apply(llmservice("model", profile="scarce", engine=_engine(4097)))
        wait_for(lambda: is_ready(kubectl.get("llmservice", "model")), seconds=90, what="the change is there")
        changed = kubectl.get("llmservice", "model")
        assert changed is not None
        assert changed["status"]["rollout"]["strategy"] == "InPlace"
        assert SCARCE_RESOURCE in changed["status"]["rollout"]["strategyReason"]
        (after,) = kubectl.list("pods", SERVER)
        assert after["metadata"]["uid"] != before["metadata"]["uid"]
    finally:
        have("remove")
