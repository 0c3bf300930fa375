"""A model that does not fit is refused before any pod could hold a GPU, and what runs goes on."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.builders import SHAPE
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import (
    VERDICT,
    condition,
    finish_warmup,
    llmservice,
    make_pods_ready,
    pods,
    wait_condition,
)

LLAMA = {**VERDICT, "shape": SHAPE}
PROFILE: dict[str, Any] = {"env": {}, "gpu": {"count": 1, "memory": "16Gi"}}


@pytest.fixture
async def api(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    async with Api(plane, namespace) as api, running_operator(plane.kubeconfig, namespace, profile=PROFILE):
        yield api


# C26
async def test_a_model_too_large_for_the_gpu_gets_none_until_it_is_told_to_be_smaller(api: Api) -> None:
    await api.create(llmservice("llama", engine={"maxModelLen": 65536}))
    await finish_warmup(api, "llama", LLAMA)
    refused = await wait_condition(api, "llama", "ConfigurationValid", "False", "ModelTooLarge")
    assert condition(refused, "ConfigurationValid")["message"].startswith("Lower spec.engine.maxModelLen to 10240, ")
    assert condition(refused, "Ready")["reason"] == condition(refused, "Stalled")["reason"] == "ModelTooLarge"
    assert condition(refused, "ModelCached")["status"] == "True"
    assert refused["status"]["model"]["estimatedMemoryBytes"] > 64 << 30
    assert await api.find("Deployment", "llama") is None

    # The verdict stays when the pod that said it is gone.
    (warmup,) = await pods(api, "llama", "warmup")
    await api.delete("Pod", warmup["metadata"]["name"])
    await api.merge("LLMService", "llama", {"spec": {"engine": {"maxModelLen": 10240}}})
    await make_pods_ready(api, "llama")
    ready = await wait_condition(api, "llama", "Ready", "True", "AllReplicasReady")
    assert condition(ready, "ConfigurationValid")["status"] == "True"
    assert ready["status"]["model"]["estimatedMemoryBytes"] <= 16 << 30


# C26, C27
@pytest.mark.parametrize(("length", "reason"), [(65536, "ModelTooLarge"), (262144, "ContextTooLong")])
async def test_what_serves_is_left_when_it_is_edited_beyond_what_fits(api: Api, length: int, reason: str) -> None:
    await api.create(llmservice("llama"))
    await finish_warmup(api, "llama", LLAMA)
    await make_pods_ready(api, "llama")
    await wait_condition(api, "llama", "Ready", "True")
    before = await api.get("Deployment", "llama")
    await api.merge("LLMService", "llama", {"spec": {"engine": {"maxModelLen": length}}})
    refused = await wait_condition(api, "llama", "ConfigurationValid", "False", reason)
    assert condition(refused, "Serving")["status"] == "True"
    after = await api.get("Deployment", "llama")
    assert after["metadata"]["generation"] == before["metadata"]["generation"]

    await api.merge("LLMService", "llama", {"spec": {"engine": {"maxModelLen": None}}})
    await wait_condition(api, "llama", "Ready", "True", "AllReplicasReady")
