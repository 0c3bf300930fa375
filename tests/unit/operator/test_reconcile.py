"""One reconcile, on a cluster in memory: order, refusals, and that a run that was cut short is finished by the next."""

from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from llmservice_operator import settings
from llmservice_operator.children import Refusal
from llmservice_operator.cluster.errors import BusyError
from llmservice_operator.cluster.interface import LeftOverError, RefusedError
from llmservice_operator.cluster.resources import Key
from llmservice_operator.progress import ProgressPoller
from llmservice_operator.reconcile import reconcile
from tests.support.builders import crashing_pod
from tests.support.fake_cluster import FakeCluster

KEY = Key("default", "llama")
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
SETTINGS = settings.parse({"images": {"server": "server:1"}, "defaultProfile": "cpu", "profiles": {"cpu": {}}})


def cluster_with(**spec: Any) -> FakeCluster:
    cluster = FakeCluster()
    source = {"huggingFace": {"repo": "acme/tiny"}}
    cluster.put(
        {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"namespace": "default", "name": "llama"},
            "spec": {"model": {"source": source}, **spec},
        }
    )
    return cluster


async def run(cluster: FakeCluster) -> float | None:
    return await reconcile(KEY, cluster, ProgressPoller(lambda _: None), SETTINGS, NOW)


def condition(cluster: FakeCluster, kind: str) -> tuple[str, str]:
    manifest = cluster.llmservice(KEY)
    assert manifest is not None
    found = next(entry for entry in manifest["status"]["conditions"] if entry["type"] == kind)
    return found["status"], found["reason"]


async def test_an_llmservice_that_is_gone_needs_nothing() -> None:
    assert await run(FakeCluster()) is None


async def test_a_condition_that_turns_is_logged_once_with_its_llmservice() -> None:
    cluster = cluster_with(resources={"gpu": {"count": 1}}, profile="absent")
    with capture_logs([merge_contextvars]) as logged:
        await run(cluster)
        await run(cluster)
    (line,) = (entry for entry in logged if entry.get("action") == "ConfigurationValidFalse")
    manifest = cluster.llmservice(KEY)
    assert manifest is not None
    assert "'absent'" in line.pop("message")
    assert line == {
        "event": "event recorded",
        "log_level": "warning",
        "action": "ConfigurationValidFalse",
        "reason": "ProfileNotFound",
        "llmservice": "default/llama",
        "uid": manifest["metadata"]["uid"],
        "generation": manifest["metadata"].get("generation"),
    }


async def test_children_come_first_and_the_status_once_at_the_end() -> None:
    cluster = cluster_with()
    await run(cluster)
    assert cluster.writes == [
        "created ServiceAccount llama-llmservice",
        "created PersistentVolumeClaim llama-cache",
        "created Service llama",
        "status LLMService llama",
    ]
    assert condition(cluster, "Ready")[0] == "False"


async def test_a_second_run_after_things_settled_writes_nothing() -> None:
    cluster = cluster_with()
    await run(cluster)
    await run(cluster)
    settled = list(cluster.writes)
    await run(cluster)
    assert cluster.writes == settled


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "Service", "status"])
async def test_a_run_that_is_cut_short_is_finished_by_the_next(kind: str) -> None:
    cut, uncut = cluster_with(), cluster_with()
    cut.errors[kind] = BusyError("the API server is busy", status=503)
    with pytest.raises(BusyError):
        await run(cut)
    for cluster in (cut, uncut):
        await run(cluster)
        await run(cluster)
    assert cut.applied.keys() == uncut.applied.keys()
    assert condition(cut, "Ready") == condition(uncut, "Ready")


async def test_a_refused_claim_holds_back_the_job_but_not_the_service() -> None:
    cluster = cluster_with()
    refusal = Refusal("PersistentVolumeClaim", "llama-cache", "QuotaExceeded", "exceeded quota: none")
    cluster.errors["PersistentVolumeClaim"] = RefusedError(refusal, 30)
    assert await run(cluster) == 30
    assert cluster.writes == [
        "created ServiceAccount llama-llmservice",
        "created Service llama",
        "status LLMService llama",
    ]
    assert condition(cluster, "Stalled") == ("True", "QuotaExceeded")
    assert [notice.type for notice in cluster.notices if notice.reason == "QuotaExceeded"] == ["Warning"]


async def test_a_refused_size_holds_back_nothing() -> None:
    cluster = cluster_with(cache={"size": "1Gi"})
    await run(cluster)
    claim = cluster.objects["PersistentVolumeClaim", "default", "llama-cache"]
    claim["status"] = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    owner = cluster.objects["LLMService", "default", "llama"]
    owner["spec"]["cache"]["size"] = "2Gi"
    cluster.errors["PersistentVolumeClaim"] = RefusedError(
        Refusal("PersistentVolumeClaim", "llama-cache", "RejectedByServer", "only dynamically provisioned"), 30
    )
    assert await run(cluster) == 3
    assert any(write.startswith("created Job llama-warmup-") for write in cluster.writes)
    assert cluster.objects["PersistentVolumeClaim", "default", "llama-cache"]["spec"]["resources"] == {
        "requests": {"storage": "1Gi"}
    }
    assert condition(cluster, "ConfigurationValid") == ("False", "RejectedByServer")


async def test_a_child_of_an_earlier_llmservice_is_waited_for_with_a_status() -> None:
    cluster = cluster_with()
    cluster.errors["PersistentVolumeClaim"] = LeftOverError("llama-cache")
    assert await run(cluster) == 1
    assert "status LLMService llama" in cluster.writes


async def test_nothing_but_the_status_is_written_while_paused() -> None:
    cluster = cluster_with(paused=True)
    await run(cluster)
    assert cluster.writes == ["status LLMService llama"]
    assert condition(cluster, "Paused") == ("True", "PausedByUser")


async def test_a_stored_spec_that_cannot_be_read_becomes_a_condition() -> None:
    cluster = cluster_with(replicas="three")
    assert await run(cluster) is None
    assert cluster.writes == ["status LLMService llama"]
    assert condition(cluster, "ConfigurationValid") == ("False", "RejectedByServer")
    await run(cluster)
    assert cluster.writes == ["status LLMService llama"]


async def test_how_a_container_failed_is_kept_before_its_pod_can_go() -> None:
    from_volume = {"source": {"pvc": {"claimName": "models"}}}
    cluster = cluster_with(model=from_volume)
    await run(cluster)
    crashed = crashing_pod(
        cluster.objects["Deployment", "default", "llama"], exitCode=3, finishedAt="2026-01-01T11:00:00Z"
    )
    crashed["metadata"]["labels"]["pod-template-hash"] = "abc"
    crashed["metadata"]["ownerReferences"] = [
        {"kind": "ReplicaSet", "name": "llama-abc", "uid": "u", "controller": True}
    ]
    cluster.put(crashed)
    owner = cluster.llmservice(KEY)
    assert owner is not None
    cluster.put({**owner, "spec": {"model": from_volume, "engine": {"maxModelLen": 1024}}})
    cluster.errors["Deployment"] = BusyError("the API server is busy", status=503)
    with pytest.raises(BusyError):
        await run(cluster)
    seen = cluster.llmservice(KEY)
    assert seen is not None
    assert seen["status"]["lastFailure"]["exitCode"] == 3
