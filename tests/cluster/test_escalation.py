"""Everything in escalations.yaml, tried on a real API server under deploy/'s roles, policies and configuration.

The attacker may write LLMServices in one namespace. There are other people's objects in it, an operator with the
shipped configuration, and Pod Security "restricted".
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.api import OURS, Api, Manifest, writes
from tests.support.controlplane import ControlPlane
from tests.support.escalations import Attempt, attempts
from tests.support.harm import Allowed, harm
from tests.support.people import install_policies, let, let_write_llmservices
from tests.support.played_node import played_node
from tests.support.running_operator import running_operator
from tests.support.stage import condition

ATTACKER = "mallory"
CONFIGURATION: Manifest = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "config.yaml").read_text())
PROFILE = CONFIGURATION["profiles"][CONFIGURATION["defaultProfile"]]
CHILD_KINDS = (
    "Deployment",
    "ControllerRevision",
    "Service",
    "ServiceAccount",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "ConfigMap",
    "Job",
    "Pod",
)
LABELS = {"app.kubernetes.io/name": "shop", "app.kubernetes.io/instance": "shop"}
IN_FORCE_SECONDS = 20.0
SETTLED_SECONDS = 240.0


def _llmservice(name: str, **spec: Any) -> Manifest:
    return {**Attempt("", "", name=name).llmservice, "spec": {**Attempt("", "").llmservice["spec"], **spec}}


def _claim(name: str) -> Manifest:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def _deployment(name: str) -> Manifest:
    labels = {"app": name}
    container = {"name": "app", "image": "registry.test/app:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def _service(name: str, selector: Manifest) -> Manifest:
    spec = {"selector": selector, "ports": [{"port": 80, "targetPort": 8000}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


TOKEN = {"repo": "acme/gated", "tokenSecretRef": {"name": "victim", "key": "token"}}
VICTIMS: list[Manifest] = [
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "victim"},
        "stringData": {"token": "a", "password": "b"},
    },
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}},
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot-llmservice"}},
    _claim("models"),
    _claim("victim-data"),
    _claim("old-cache"),
    _claim("thief-cache"),
    _deployment("payments"),
    _service("payments", {"app": "payments"}),
    _service("shop-web", LABELS),
]
VICTIM_LLMSERVICES = [
    _llmservice("victim", model={"source": {"huggingFace": TOKEN}}),
    _llmservice("victim-reader", model={"source": {"pvc": {"claimName": "victim-data"}}}),
]


@pytest.fixture
async def admin(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    """The administrator of a namespace with other people's objects, in which an attacker may write LLMServices."""
    plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    install_policies(plane)
    let_write_llmservices(plane, namespace, ATTACKER)
    let(plane, namespace, ATTACKER, "get", "persistentvolumeclaims", "models")
    async with Api(plane, namespace) as api:
        for victim in (*VICTIMS, *VICTIM_LLMSERVICES):
            await api.create(victim)
        yield api


@pytest.fixture
async def attacker(plane: ControlPlane, admin: Api) -> AsyncIterator[Api]:
    async with Api(plane, admin.namespace, ATTACKER) as api:

        async def is_refused() -> bool:
            answer = await api.ask(
                "POST", f"{_llmservices(api)}?dryRun=All", _llmservice("x", cache={"claimName": "x"})
            )
            return "may not update this one" in answer.text

        await api.eventually("the policies are in force", is_refused, IN_FORCE_SECONDS)
        yield api


def _llmservices(api: Api, name: str = "") -> str:
    return f"/apis/llmservice.dev/v1alpha1/namespaces/{api.namespace}/llmservices" + (f"/{name}" if name else "")


async def _tried(attacker: Api, attempt: Attempt, victim_uid: str) -> str:
    """Send the requests of an attempt; return why the API server refused one, empty if it took them all."""
    for method, path, body in _requests(attacker, attempt):
        known = json.loads(json.dumps(body).replace('"VICTIM"', json.dumps(victim_uid)))
        answer = await attacker.ask(method, path.replace("NAMESPACE", attacker.namespace), known)
        if answer.is_error:
            return str(answer.json().get("message"))
    return ""


def _requests(attacker: Api, attempt: Attempt) -> list[tuple[str, str, Manifest | None]]:
    if attempt.request is not None:
        return [(attempt.request["method"], "/" + attempt.request["path"], attempt.request.get("body"))]
    name = attempt.of or attempt.name
    sent: list[tuple[str, str, Manifest | None]] = []
    if not attempt.of:
        sent.append(("POST", _llmservices(attacker), attempt.llmservice))
    if attempt.edit is not None:
        sent.append(("PATCH", _llmservices(attacker, name), attempt.edit))
    if attempt.scale is not None:
        sent.append(("PATCH", f"{_llmservices(attacker, name)}/scale", {"spec": {"replicas": attempt.scale}}))
    return sent


async def _made_of(admin: Api, attempt: Attempt, children: list[Manifest]) -> str:
    """Return what the operator made of an LLMService that the API server took, in the words of the table."""
    llmservice = await admin.get("LLMService", attempt.name)
    spec = llmservice["spec"]
    pvc = spec["model"]["source"].get("pvc", {}).get("claimName")
    allowed = Allowed(
        image=CONFIGURATION["images"]["server"],
        tolerations=[item["key"] for item in PROFILE["tolerations"]],
        claims={f"{attempt.name}-cache"} if pvc is None else {pvc},
        secrets=(),
        max_replicas=PROFILE["allow"]["maxReplicas"],
    )
    mine = [child for child in children if child["metadata"]["labels"]["app.kubernetes.io/instance"] == attempt.name]
    found = harm(attempt.name, llmservice["metadata"]["uid"], mine, allowed)
    if found:
        return f"succeeded: {'; '.join(found)}"
    valid = condition(llmservice, "ConfigurationValid")
    return valid["reason"] if valid["status"] == "False" else "harmless"


async def _settled(admin: Api) -> bool:
    """Whether each LLMService has all its pods, or a reason why it has none."""
    deployments = {item["metadata"]["name"]: item for item in await admin.all("Deployment")}
    for llmservice in await admin.all("LLMService", ""):
        is_stopped = condition(llmservice, "ConfigurationValid")["status"] == "False"
        deployment = deployments.get(llmservice["metadata"]["name"], {})
        if not is_stopped and deployment.get("status", {}).get("readyReplicas", 0) == 0:
            return False
    return True


async def _kept(admin: Api) -> list[Manifest]:
    """Return the victims as they are, without what controllers count and when."""
    found = []
    for victim in (*VICTIMS, *VICTIM_LLMSERVICES):
        if victim["kind"] != "Secret":
            live = await admin.get(victim["kind"], victim["metadata"]["name"])
            found.append({"metadata": live["metadata"]["uid"], "labels": live["metadata"].get("labels"), **_body(live)})
    return found


def _body(live: Manifest) -> Manifest:
    return {key: value for key, value in live.items() if key not in ("metadata", "status")}


@pytest.mark.timeout(600)
async def test_no_attempt_gains_anything(plane: ControlPlane, admin: Api, attacker: Api) -> None:
    table = attempts()
    before = await _kept(admin)
    async with running_operator(plane.kubeconfig, admin.namespace, configuration=CONFIGURATION), played_node(admin):
        victim_uid = (await admin.get("LLMService", "victim"))["metadata"]["uid"]
        refusals = {attempt.what: await _tried(attacker, attempt, victim_uid) for attempt in table}
        await admin.eventually("each is carried out or told why not", lambda: _settled(admin), SETTLED_SECONDS)
        children = [child for kind in CHILD_KINDS for child in await _all(admin, kind)]
        met = {}
        for attempt in table:
            said = refusals[attempt.what]
            refused = "refused" if said and attempt.says in said else f"refused: {said}"
            met[attempt.what] = refused if said else await _made_of(admin, attempt, children)
    unforeseen = {item.what: met[item.what] for item in table if met[item.what] != item.meets}
    assert unforeseen == {}, json.dumps(unforeseen, indent=1)
    assert await _kept(admin) == before
    assert {line.split()[1] for line in writes(plane, admin.namespace)}.isdisjoint({"secrets", "pods", "roles"})
    print(f"{len(table)} attempts, {sum(map(bool, refusals.values()))} refused by the API server")  # noqa: T201


async def _all(admin: Api, kind: str) -> list[Manifest]:
    return [{"kind": kind, **item} for item in await admin.all(kind, OURS)]
