"""Plays the node that a control plane alone lacks: jobs finish and pods become ready when the test says so."""

import asyncio
import contextlib
import json
from typing import Any

from tests.support.api import Api, MissingError, writes
from tests.support.controlplane import ControlPlane

Manifest = dict[str, Any]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
VERDICT: Manifest = {
    "outcome": "Downloaded",
    "commit": COMMIT,
    "digest": "sha256:" + "ab" * 32,
    "path": f"models/0011223344556677/{COMMIT}",
    "quantization": "nf4",
    "bytes": 1000,
}


def llmservice(name: str, **spec: Any) -> Manifest:
    """Return the six lines, with more fields of the spec where given."""
    source = {"huggingFace": {"repo": "acme/tiny"}}
    return {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": name},
        "spec": {"model": {"source": source}, **spec},
    }


def autoscaled(minimum: int = 1, maximum: int = 4) -> Manifest:
    """Return `spec.scaling` by requests in flight."""
    metric = {
        "metric": {"name": "llmservice_requests_in_flight"},
        "target": {"type": "AverageValue", "averageValue": 6},
    }
    metrics = [{"type": "Pods", "pods": metric}]
    return {"provider": "HPA", "minReplicas": minimum, "maxReplicas": maximum, "metrics": metrics}


async def pods(api: Api, name: str, component: str) -> list[Manifest]:
    """Return the pods of one component of an LLMService that are not being deleted."""
    selector = f"app.kubernetes.io/instance={name},app.kubernetes.io/component={component}"
    found = await api.all("Pod", selector)
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


async def finish_warmup(api: Api, name: str, verdict: Manifest = VERDICT) -> None:
    """Let the warm-up pod of `name` end well with `verdict`."""

    async def waiting() -> list[Manifest]:
        found = await pods(api, name, "warmup")
        return [pod for pod in found if pod["status"]["phase"] not in ("Succeeded", "Failed")]

    pod = (await api.eventually(f"warm-up pod of {name}", waiting))[0]
    await succeed(api, pod, verdict)


async def succeed(api: Api, pod: Manifest, verdict: Manifest = VERDICT) -> None:
    """Let one warm-up pod end well with `verdict`."""
    message = json.dumps({"schema": 1, "verdict": verdict})
    await _end(api, pod, "warmup", "Succeeded", 0, message)


async def sweep_up(api: Api, pod: Manifest) -> None:
    """Let one sweep pod end well; it says nothing."""
    await _end(api, pod, "sweep", "Succeeded", 0, "")


async def fail_warmup(api: Api, name: str, reason: str, exit_code: int) -> None:
    """Let the warm-up pod of `name` fail with a typed reason."""

    async def waiting() -> list[Manifest]:
        return await pods(api, name, "warmup")

    await fail(api, (await api.eventually(f"warm-up pod of {name}", waiting))[0], reason, exit_code)


async def fail(api: Api, pod: Manifest, reason: str, exit_code: int) -> None:
    """Let one warm-up pod fail with a typed reason."""
    await _end(api, pod, "warmup", "Failed", exit_code, failure(reason))


def failure(reason: str) -> str:
    """Return the termination message of a container that knows why it failed."""
    return json.dumps({"schema": 1, "failure": {"reason": reason, "message": f"{reason} in the test"}})


async def _end(api: Api, pod: Manifest, container: str, phase: str, exit_code: int, message: str) -> None:
    ended = {"exitCode": exit_code, "message": message, "reason": "Completed" if exit_code == 0 else "Error"}
    ended |= {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:05Z"}
    status = {"name": container, "image": "test", "imageID": "", "ready": False, "restartCount": 0}
    state = {"phase": phase, "containerStatuses": [{**status, "state": {"terminated": ended}}]}
    await api.merge("Pod", pod["metadata"]["name"], {"status": state}, "status")


async def make_pods_ready(api: Api, name: str, count: int = 1) -> None:
    """Let every server pod of `name` become ready, once there are at least `count`."""

    async def enough() -> list[Manifest] | None:
        found = await pods(api, name, "server")
        return found if len(found) >= count else None

    for pod in await api.eventually(f"{count} server pods of {name}", enough):
        await make_ready(api, pod)


async def make_ready(api: Api, pod: Manifest) -> None:
    """Let one pod run and be ready; one that a rollout has just taken away stays away."""
    since = "2026-01-01T00:00:00Z"
    container = {"name": "server", "image": "test", "imageID": "", "ready": True, "restartCount": 0, "started": True}
    status = {
        "phase": "Running",
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": since}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ],
        "containerStatuses": [{**container, "state": {"running": {"startedAt": since}}}],
    }
    with contextlib.suppress(MissingError):
        await api.merge("Pod", pod["metadata"]["name"], {"status": status}, "status")


async def wait_in(api: Api, pod: Manifest, waiting: Manifest, **container: object) -> None:
    """Let the container of a pod with a node wait for this reason, as the kubelet reports it."""
    name = pod["spec"]["containers"][0]["name"]
    status = {"name": name, "image": "test", "imageID": "", "ready": False, "restartCount": 0}
    status |= {"state": {"waiting": waiting}, **container}
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    body = {"phase": "Pending", "conditions": [scheduled], "containerStatuses": [status]}
    await api.merge("Pod", pod["metadata"]["name"], {"status": body}, "status")


async def crash(api: Api, pod: Manifest) -> None:
    """Let the server of a pod with a node be in back-off after its third crash."""
    ended = {
        "exitCode": 3,
        "reason": "Error",
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:05Z",
    }
    await wait_in(api, pod, {"reason": "CrashLoopBackOff"}, restartCount=3, lastState={"terminated": ended})


def condition(manifest: Manifest, kind: str) -> Manifest:
    """Return one condition of an object, or an empty one."""
    found = [entry for entry in manifest.get("status", {}).get("conditions", ()) if entry["type"] == kind]
    return found[0] if found else {"status": None, "reason": None, "message": None}


async def serve(api: Api, name: str, replicas: int = 1) -> Manifest:
    """Take a new LLMService all the way to Ready and return it."""
    await finish_warmup(api, name)
    await make_pods_ready(api, name, replicas)
    return await wait_condition(api, name, "Ready", "True")


async def server_uids(api: Api, name: str) -> set[str]:
    """Return the uids of the server pods of `name`."""
    return {pod["metadata"]["uid"] for pod in await pods(api, name, "server")}


async def begin_rollout(api: Api, name: str, edit: Manifest, replicas: int) -> set[str]:
    """Take a new LLMService to Ready, then change it; return the uids of its pods once there is a new one beside
    them.
    """
    await api.create(llmservice(name, replicas=replicas))
    await serve(api, name, replicas)
    before = await server_uids(api, name)
    await api.merge("LLMService", name, edit)

    async def has_begun() -> bool:
        return len(await server_uids(api, name)) == replicas + 1

    await api.eventually("a pod of the new revision", has_begun)
    return before


async def settled(plane: ControlPlane, api: Api) -> None:
    """Wait until the operator has been quiet for a second: controllers report a last time after Ready."""

    async def is_quiet() -> bool:
        before = len(writes(plane, api.namespace))
        await asyncio.sleep(1.0)
        return len(writes(plane, api.namespace)) == before

    await api.eventually("the operator is quiet", is_quiet)


async def wait_condition(
    api: Api, name: str, kind: str, status: str, reason: str | None = None, within_seconds: float = 10.0
) -> Manifest:
    """Return the LLMService once a condition about its current generation has this status, and this reason."""

    async def reached() -> Manifest | None:
        manifest = await api.get("LLMService", name)
        entry = condition(manifest, kind)
        is_current = entry.get("observedGeneration") == manifest["metadata"]["generation"]
        return manifest if is_current and entry["status"] == status and reason in (None, entry["reason"]) else None

    found: Manifest = await api.eventually(f"{name}: {kind}={status} {reason or ''}", reached, within_seconds)
    return found
