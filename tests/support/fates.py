"""What becomes of a pod that does not come up: each is a Fate of the played node, which tells it once for each pod."""

from datetime import UTC, datetime
from typing import Any

from tests.support import stage
from tests.support.api import Api
from tests.support.played_node import Fate

Manifest = dict[str, Any]
_NODE = "node"
"""It need not exist. A pod on it is out of the scheduler's hands, who else would say again that it finds none."""


async def stays(api: Api, pod: Manifest) -> None:
    """Leave the pod alone: it waits for something that is not there."""


def waits(reason: str, message: str = "") -> Fate:
    """Return the fate of a container that the kubelet cannot start."""

    async def fate(api: Api, pod: Manifest) -> None:
        if await _is_untold(api, pod):
            await stage.wait_in(api, pod, {"reason": reason, "message": message})

    return fate


def crashes(*, reason: str = "Error", exit_code: int = 3, message: str = "") -> Fate:
    """Return the fate of a server that has ended three times; `message` are its own last words."""
    ended = {"exitCode": exit_code, "reason": reason, "message": message}
    ended |= {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:05Z"}

    async def fate(api: Api, pod: Manifest) -> None:
        if await _is_untold(api, pod):
            waiting = {"reason": "CrashLoopBackOff"}
            await stage.wait_in(api, pod, waiting, restartCount=3, lastState={"terminated": ended})

    return fate


def ends(reason: str, exit_code: int) -> Fate:
    """Return the fate of a warm-up that fails with a typed reason."""

    async def fate(api: Api, pod: Manifest) -> None:
        await stage.fail(api, pod, reason, exit_code)

    return fate


def finds_no_node(words: str) -> Fate:
    """Return the fate of a pod for which the scheduler has only these words."""

    async def fate(api: Api, pod: Manifest) -> None:
        said = stage.condition(pod, "PodScheduled")
        if said.get("message") != words:
            since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            entry = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
            status = {"conditions": [{**entry, "lastTransitionTime": since}]}
            await api.merge("Pod", pod["metadata"]["name"], {"status": status}, "status")

    return fate


def mounts_nothing(words: str) -> Fate:
    """Return the fate of a pod whose volumes the kubelet cannot mount: only an Event says so."""

    async def fate(api: Api, pod: Manifest) -> None:
        if await _is_untold(api, pod):
            await stage.wait_in(api, pod, {"reason": "ContainerCreating"})
            await api.create(_event(pod, "FailedMount", words))

    return fate


async def _is_untold(api: Api, pod: Manifest) -> bool:
    """Put the pod on a node; return whether its kubelet has not said anything yet."""
    if "nodeName" not in pod["spec"]:
        await api.bind(pod["metadata"]["name"], _NODE)
    return "containerStatuses" not in pod["status"]


def _event(pod: Manifest, reason: str, note: str) -> Manifest:
    about = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "played-"},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": "kubelet",
        "reportingInstance": _NODE,
        "action": "Mount",
        "type": "Warning",
        "reason": reason,
        "note": note,
        "regarding": {**about, "namespace": pod["metadata"]["namespace"]},
    }
