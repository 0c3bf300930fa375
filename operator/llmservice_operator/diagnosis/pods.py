"""What is wrong with a pod, from its status, its containers' last words and, for volumes, its events."""

import re

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.conditions import Reason
from llmservice_operator.diagnosis import scheduler, verdict
from llmservice_operator.diagnosis.events import latest_words
from llmservice_operator.diagnosis.trouble import Trouble, of_failure, printable
from llmservice_operator.diagnosis.verdict import Failure, container_status
from llmservice_operator.manifest import Manifest, condition, is_being_deleted, is_true

FEW_RESTARTS = 2
"""From this many on a container that runs again is still taken for one that crashes: a status must not swing with
it.
"""
_WITHOUT_A_CAUSE = frozenset({Reason.ENGINE_FAILED, Reason.WARMUP_FAILED})
"""What a container says when a process of its own was killed: by whom, only the kernel knows."""
_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(: ErrImagePull: )?')
_SECRET_MISSING = re.compile(r'secret "([^"]+)" not found')
_KEY_MISSING = re.compile(r"couldn't find key (\S+) in Secret \S*?([^/\s]+)$")
_MOUNTS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})


def server_pods(children: Children) -> list[Manifest]:
    """Return the pods of the Deployment that are meant to stay, those of every revision."""
    return [pod for pod in children.pods if is_server(pod) and not is_over(pod)]


def is_server(pod: Manifest) -> bool:
    """Whether a pod is the Deployment's, and not a Job's."""
    return names.component(pod) == names.SERVER


def is_over(pod: Manifest) -> bool:
    """Whether a pod is on its way out or has ended."""
    return is_being_deleted(pod) or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_ready(pod: Manifest) -> bool:
    """Whether a pod's endpoint gets requests."""
    return is_true(pod, "Ready")


def is_scheduled(pod: Manifest) -> bool:
    """Whether a pod has a node, as its spec, its condition or the mere fact that it runs says."""
    return (
        "nodeName" in pod.get("spec", {})
        or is_true(pod, "PodScheduled")
        or pod.get("status", {}).get("phase", "Pending") != "Pending"
    )


def revision(pod: Manifest) -> str | None:
    """Return the revision that a pod was made from."""
    label: str | None = pod["metadata"].get("labels", {}).get(names.REVISION_LABEL)
    return label


def trouble(pod: Manifest, container: str, events: tuple[Manifest, ...]) -> Trouble | None:
    """Return what keeps a pod from being ready, or None while it is ready or only on its way.

    A container that failed and was started again stays in trouble until it is ready: that it loads once more is no
    news.
    """
    if is_ready(pod):
        return None
    status = container_status(pod, container)
    return (
        scheduler.of_pod(pod)
        or _waiting(pod, status)
        or why_it_ended(pod, container)
        or _mounts(pod, status, events)
        or _lost(pod, status)
    )


def _waiting(pod: Manifest, status: Manifest) -> Trouble | None:
    waiting = status.get("state", {}).get("waiting", {})
    reason, said = waiting.get("reason"), printable(waiting.get("message", ""))
    if reason in _PULL:
        words = _BACK_OFF.sub("", said)
        advice = f"Check that image {_image(pod, status, said)} exists and may be pulled"
        return Trouble(Reason.IMAGE_PULL_FAILED, f"{advice}: {words}" if words else advice)
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return _secret(said) or Trouble(Reason.REPLICAS_UNAVAILABLE, f"The container cannot be created: {said}")
    return None


def _image(pod: Manifest, status: Manifest, said: str) -> str:
    """Return the image that the kubelet speaks of: the container's, or one that a volume of the pod has."""
    volumes = pod.get("spec", {}).get("volumes", ())
    mounted = [str(volume["image"].get("reference")) for volume in volumes if "image" in volume]
    return next((reference for reference in mounted if reference in said), str(status.get("image")))


def _secret(said: str) -> Trouble | None:
    """Return the trouble that the kubelet's words name, if they are about a Secret."""
    missing_key = _KEY_MISSING.search(said)
    if missing_key:
        key, secret = missing_key.groups()
        return Trouble(
            Reason.SECRET_KEY_INVALID, f"Add the key {key} to Secret {secret}, or name another key in the spec"
        )
    missing = _SECRET_MISSING.search(said)
    if missing:
        return Trouble(
            Reason.SECRET_NOT_FOUND, f"Create Secret {missing.group(1)} in this namespace: the spec names it"
        )
    return None


def last_end(pod: Manifest, container: str) -> Manifest:
    """Return how a pod's container ended last, as the kubelet reports it; empty if it never did."""
    status = container_status(pod, container)
    ended: Manifest = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated") or {}
    return ended


def why_it_ended(pod: Manifest, container: str, otherwise: Reason = Reason.CRASH_LOOP) -> Trouble | None:
    """Return why the container ended: its own words, else how the kernel or the kubelet saw it, with the reason
    `otherwise` where nobody knows. None if it did not, or well.
    """
    ended, status = last_end(pod, container), container_status(pod, container)
    if not ended:
        return None
    is_backing_off = status.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
    is_new = not is_backing_off and status.get("restartCount", 0) < FEW_RESTARTS
    said = verdict.of_pod(pod, container)
    was_out_of_memory = ended.get("reason") == "OOMKilled"
    if isinstance(said, Failure) and not (was_out_of_memory and said.reason in _WITHOUT_A_CAUSE):
        return of_failure(said.reason, said.message, otherwise=otherwise, is_new=is_new)
    if was_out_of_memory:
        advice = f"Raise spec.resources.limits.memory: container {container} needed more than it may use"
        return Trouble(Reason.OUT_OF_MEMORY, advice, is_new)
    if ended.get("exitCode", 0) == 0:
        return None
    advice = f"Look at the log of container {container}: it ended with exit code {ended['exitCode']}"
    return Trouble(otherwise, advice, is_new)


def _mounts(pod: Manifest, status: Manifest, events: tuple[Manifest, ...]) -> Trouble | None:
    """Return why the pod's volumes are not mounted: only events tell."""
    if status.get("state", {}).get("running"):
        return None
    said = latest_words(pod, events, _MOUNTS)
    if said is None:
        return None
    return _secret(said) or Trouble(Reason.VOLUME_UNUSABLE, f"Look at the volume and who else uses it: {said}")


def _lost(pod: Manifest, status: Manifest) -> Trouble | None:
    """Return the trouble of a pod that was ready and is not any more, with a container that never restarted.

    While a server loads for the first time, its pod is not ready since before the container started.
    """
    started = status.get("state", {}).get("running", {}).get("startedAt")
    ready = condition(pod, "Ready")
    if not started or ready.get("status") != "False" or ready.get("lastTransitionTime", "") <= started:
        return None
    advice = f"Look at pod {pod['metadata']['name']} and its node: it was ready and is not any more"
    return Trouble(Reason.REPLICAS_UNAVAILABLE, advice)
