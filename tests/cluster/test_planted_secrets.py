"""Secrets are planted around an LLMService that has all kinds of trouble, and looked for in all that is written."""

import base64
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.api import PATHS, Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.server_process import free_ports
from tests.support.stage import (
    crash,
    fail_warmup,
    llmservice,
    make_pods_ready,
    pods,
    succeed,
    wait_condition,
    wait_in,
)

TOKEN, KEY = "hf_planted_9e2b", "sk-planted-4c1d"
SECRETS = {"hugging-face": {"token": TOKEN}, "llama-keys": {"team-a": KEY}}
HUB = {"repo": "acme/gated", "tokenSecretRef": {"name": "hugging-face"}}
AUTH = {"mode": "APIKey", "apiKeysSecretRef": {"name": "llama-keys"}}


@pytest.fixture
async def api(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    async with Api(plane, namespace) as api:
        for name, values in SECRETS.items():
            await api.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})
        yield api


async def test_no_secret_is_in_anything_that_is_written_of_a_service(
    plane: ControlPlane, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    (port,) = free_ports(1)
    async with running_operator(plane.kubeconfig, api.namespace, port=port), httpx.AsyncClient() as http:
        await api.create(llmservice("llama", model={"source": {"huggingFace": HUB}}, auth=AUTH))
        await _go_through_trouble(api)
        metrics = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    written = {kind: await api.all(kind, "") for kind in PATHS if kind != "Secret"}
    assert all(written[kind] for kind in ("Event", "ControllerRevision", "ConfigMap", "Job", "LLMService"))
    texts = {kind: json.dumps(objects) for kind, objects in written.items()}
    texts |= {"log": capsys.readouterr().out, "metrics": metrics}
    assert "applied" in texts["log"]
    assert "llmservice" in metrics
    assert [where for where, text in texts.items() for secret in (TOKEN, KEY) if _is_in(secret, text)] == []
    assert _requests_for_secrets(plane, api.namespace) == []


async def _go_through_trouble(api: Api) -> None:
    """Let the warm-up be refused, a replica lack its Secret, and a change crash and be taken back."""
    await fail_warmup(api, "llama", "AccessDenied", 65)
    await wait_condition(api, "llama", "ModelCached", "False", "AccessDenied")
    await api.merge("LLMService", "llama", {"spec": {"model": {"source": {"huggingFace": {"revision": "v2"}}}}})
    await _succeed_anew(api)
    (pod,) = await api.eventually("a replica", lambda: pods(api, "llama", "server"))
    await api.bind(pod["metadata"]["name"], "node")
    words = f"couldn't find key team-b in Secret {api.namespace}/llama-keys"
    await wait_in(api, pod, {"reason": "CreateContainerConfigError", "message": words})
    await wait_condition(api, "llama", "ConfigurationValid", "False", "SecretKeyInvalid")
    await make_pods_ready(api, "llama")
    await wait_condition(api, "llama", "Ready", "True")
    await api.merge("LLMService", "llama", {"spec": {"engine": {"maxModelLen": 1024}}})
    new = await api.eventually("another replica", lambda: _others(api, pod))
    await api.bind(new["metadata"]["name"], "node")
    await crash(api, new)
    await wait_condition(api, "llama", "Degraded", "True", "RolledBack")


async def _succeed_anew(api: Api) -> None:
    async def waiting() -> list[Manifest]:
        return [pod for pod in await pods(api, "llama", "warmup") if pod["status"]["phase"] == "Pending"]

    (pod,) = await api.eventually("another warm-up", waiting)
    await succeed(api, pod)


async def _others(api: Api, pod: Manifest) -> Manifest | None:
    found = [item for item in await pods(api, "llama", "server") if item["metadata"]["uid"] != pod["metadata"]["uid"]]
    return found[0] if found else None


def _is_in(secret: str, text: str) -> bool:
    return secret in text or base64.b64encode(secret.encode()).decode().rstrip("=") in text


def _requests_for_secrets(plane: ControlPlane, namespace: str) -> list[str]:
    """Return what anybody but the test itself asked of the Secrets in the namespace."""
    entries = [json.loads(line) for line in plane.audit_log.read_text().splitlines()]
    return [
        f"{entry['verb']} by {entry['userAgent']}"
        for entry in entries
        if entry.get("objectRef", {}).get("resource") == "secrets"
        and entry["objectRef"].get("namespace") == namespace
        and entry["userAgent"] != "a-person"
    ]
