"""A Secret that a service names gets another value: fault F56.

That keys of a running server change with it is in tests/contract/test_server_connections.
"""

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest

from tests.support.api import Api, Manifest, writes
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import llmservice, pods, serve, server_uids, settled

TOKEN = {"name": "hub", "key": "token"}
KEYS = {"name": "keys"}
QUIET_SECONDS = 3.0


@pytest.fixture
async def api(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    async with Api(plane, namespace) as api, running_operator(plane.kubeconfig, namespace):
        yield api


def _secret(name: str, value: str) -> Manifest:
    encoded = {"token": base64.b64encode(value.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def _source(revision: str) -> Manifest:
    return {"source": {"huggingFace": {"repo": "acme/tiny", "revision": revision, "tokenSecretRef": TOKEN}}}


async def test_f56_rotated_secrets_restart_nothing_and_the_next_warm_up_reads_what_is_there_then(
    plane: ControlPlane, api: Api
) -> None:
    for name in ("hub", "keys"):
        await api.create(_secret(name, "old"))
    await api.create(llmservice("llama", model=_source("one"), auth={"mode": "APIKey", "apiKeysSecretRef": KEYS}))
    await serve(api, "llama")
    await settled(plane, api)
    before, written = await server_uids(api, "llama"), writes(plane, api.namespace)
    for name in ("hub", "keys"):
        await api.merge("Secret", name, {"data": _secret(name, "new")["data"]})
    await asyncio.sleep(QUIET_SECONDS)
    assert writes(plane, api.namespace)[len(written) :] == []
    assert await server_uids(api, "llama") == before

    await api.merge("LLMService", "llama", {"spec": {"model": _source("two")}})

    async def next_warmup() -> Manifest | None:
        running = [pod for pod in await pods(api, "llama", "warmup") if pod["status"]["phase"] == "Pending"]
        return running[0] if running else None

    (container,) = (await api.eventually("another warm-up", next_warmup))["spec"]["containers"]
    # The kubelet reads a Secret when it starts the container.
    references = [item["valueFrom"]["secretKeyRef"] for item in container["env"] if "valueFrom" in item]
    assert [{field: each[field] for field in TOKEN} for each in references] == [TOKEN]
    assert await server_uids(api, "llama") == before
