"""Rights of the operator that are taken away, and a token that ends: faults F16 and F17.

Which rights it needs is in test_operator_rights.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from kubernetes.aio.config import incluster_config
from prometheus_client import REGISTRY

from llmservice_operator.cluster import client
from tests.support.api import Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import condition, llmservice, make_pods_ready, serve, wait_condition

ROLE = Path(__file__).parents[2] / "deploy" / "cluster-role.yaml"
SHOWN_SECONDS = 5.0
HEALED_SECONDS = 25.0
"""What was refused is tried again after five seconds, then after ten."""
ENDED_SECONDS = 30.0
"""The API server believes a token for ten seconds after it has looked."""


class Rights:
    """What the operator may do in one namespace: at first what deploy/ gives it."""

    def __init__(self, plane: ControlPlane, namespace: str):
        self._plane = plane
        self._namespace = namespace
        plane.kubectl("apply", "--server-side", "--filename", str(ROLE))
        given = json.loads(plane.kubectl("get", "clusterrole", "llmservice-operator", "--output=json"))
        self._rules: list[Manifest] = given["rules"]
        self._write(self._rules)
        user = f"operator-{namespace}"
        binding = ("create", "rolebinding", "operator", "--role=operator", f"--user={user}")
        plane.kubectl(*binding, f"--namespace={namespace}")
        self.kubeconfig = plane.kubeconfig_for(user)

    async def revoke(self, resource: str, *verbs: str) -> None:
        """Take verbs on one resource away."""
        left = [rule for rule in self._rules if resource not in rule["resources"]]
        for rule in (rule for rule in self._rules if resource in rule["resources"]):
            others = [name for name in rule["resources"] if name != resource]
            left.append(
                {**rule, "resources": [resource], "verbs": [verb for verb in rule["verbs"] if verb not in verbs]}
            )
            left += [{**rule, "resources": others}] if others else []
        await asyncio.to_thread(self._write, [rule for rule in left if rule["verbs"]])

    async def give_back(self) -> None:
        """Give everything back."""
        await asyncio.to_thread(self._write, self._rules)

    def _write(self, rules: list[Manifest]) -> None:
        metadata = {"name": "operator", "namespace": self._namespace}
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}
        self._plane.kubectl("apply", "--server-side", "--filename", "-", stdin=json.dumps(role))


@pytest.fixture
def rights(plane: ControlPlane, namespace: str) -> Rights:
    return Rights(plane, namespace)


@pytest.fixture
async def api(plane: ControlPlane, namespace: str, rights: Rights) -> AsyncIterator[Api]:
    """A service that is served, by an operator with these rights."""
    async with Api(plane, namespace) as api, running_operator(rights.kubeconfig, namespace):
        await api.create(llmservice("llama"))
        await serve(api, "llama")
        yield api


def missed(verb: str, resource: str) -> float:
    """Return how many requests a right was missing for."""
    labels = {"verb": verb, "resource": resource}
    return REGISTRY.get_sample_value("llmservice_operator_missing_rights_total", labels) or 0.0


async def _is_missed(verb: str, resource: str, before: float) -> bool:
    return missed(verb, resource) > before


async def _affinity_is_ours(api: Api) -> bool:
    return bool((await api.get("Service", "llama"))["spec"]["sessionAffinity"] == "None")


async def test_f17_a_write_that_is_not_allowed_any_more_is_named_and_made_when_it_is(api: Api, rights: Rights) -> None:
    before = missed("patch", "services")
    await rights.revoke("services", "patch")
    await api.merge("Service", "llama", {"spec": {"sessionAffinity": "ClientIP"}})
    told = await wait_condition(
        api, "llama", "ConfigurationValid", "False", "OperatorForbidden", within_seconds=SHOWN_SECONDS
    )
    message = condition(told, "ConfigurationValid")["message"]
    assert message.startswith("Give the operator its right back")
    assert 'cannot patch resource "services"' in message
    assert condition(told, "Stalled")["reason"] == "OperatorForbidden"
    assert condition(told, "Serving")["status"] == "True"
    assert missed("patch", "services") > before
    await rights.give_back()
    await api.eventually("the Service is as it was", lambda: _affinity_is_ours(api), HEALED_SECONDS)
    await wait_condition(api, "llama", "Ready", "True")


async def test_f17_a_status_that_may_not_be_written_is_counted_and_comes_later(api: Api, rights: Rights) -> None:
    before = missed("patch", "llmservices.llmservice.dev/status")
    await rights.revoke("llmservices/status", "patch")
    await api.merge("LLMService", "llama", {"spec": {"replicas": 2}})
    counted = lambda: _is_missed("patch", "llmservices.llmservice.dev/status", before)  # noqa: E731
    await api.eventually("it is counted", counted, SHOWN_SECONDS)
    await make_pods_ready(api, "llama", 2)
    await rights.give_back()
    await wait_condition(api, "llama", "Ready", "True", within_seconds=HEALED_SECONDS)


async def test_f17_what_happens_while_a_kind_may_not_be_watched_is_seen_afterwards(
    plane: ControlPlane, namespace: str, rights: Rights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "WATCH_SECONDS", 2)
    async with Api(plane, namespace) as api, running_operator(rights.kubeconfig, namespace):
        await api.create(llmservice("llama"))
        await serve(api, "llama")
        before = missed("watch", "services")
        await rights.revoke("services", "list", "watch")
        await api.eventually("it is counted", lambda: _is_missed("watch", "services", before), HEALED_SECONDS)
        await api.merge("Service", "llama", {"spec": {"sessionAffinity": "ClientIP"}})
        await rights.give_back()
        await api.eventually("the Service is as it was", lambda: _affinity_is_ours(api), HEALED_SECONDS)


async def test_f16_an_operator_whose_token_has_ended_goes_on_with_the_one_that_is_mounted_now(
    plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = tmp_path / "token"
    _bind_service_account(plane, namespace)
    mounted.write_text(_token(plane, namespace, "first"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(plane.network.api_port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(mounted))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(plane.ca_file))
    async with Api(plane, namespace) as api, running_operator(None, namespace):
        await api.create(llmservice("llama"))
        await serve(api, "llama")
        ended = mounted.read_text()
        mounted.write_text(await asyncio.to_thread(_token, plane, namespace, "second"))
        await api.delete("Secret", "first")
        await api.eventually("the first token has ended", lambda: _is_refused(plane, ended), ENDED_SECONDS)
        await api.merge("Service", "llama", {"spec": {"sessionAffinity": "ClientIP"}})
        await api.merge("LLMService", "llama", {"spec": {"replicas": 2}})
        await api.eventually("the Service is as it was", lambda: _affinity_is_ours(api), SHOWN_SECONDS)
        await make_pods_ready(api, "llama", 2)
        await wait_condition(api, "llama", "Ready", "True")


def _bind_service_account(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("apply", "--server-side", "--filename", str(ROLE))
    plane.kubectl("create", "serviceaccount", "operator", f"--namespace={namespace}")
    account = f"--serviceaccount={namespace}:operator"
    plane.kubectl(
        *("create", "rolebinding", "operator", "--clusterrole=llmservice-operator", account),
        f"--namespace={namespace}",
    )


def _token(plane: ControlPlane, namespace: str, secret: str) -> str:
    """Return a token that ends with a Secret that is made for it: the shortest life one can ask for is ten minutes."""
    plane.kubectl("create", "secret", "generic", secret, f"--namespace={namespace}")
    bound = ("--bound-object-kind=Secret", f"--bound-object-name={secret}")
    return plane.kubectl("create", "token", "operator", *bound, f"--namespace={namespace}").strip()


async def _is_refused(plane: ControlPlane, token: str) -> bool:
    unauthorized = 401
    context = ssl.create_default_context(cafile=str(plane.ca_file))
    async with httpx.AsyncClient(verify=context, trust_env=False) as http:
        answer = await http.get(f"{plane.url}/api", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code == unauthorized
