"""Which children look troubled enough to read their events, and whose pods are worth asking for progress."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.manifest import Manifest, has_finished, is_being_deleted, is_true

PATIENCE_SECONDS: Final = 5.0
"""What is younger than this is only starting."""
CREATION_SECONDS: Final = 2.0
"""A Job gets its pod at once, or is refused it at once."""
MOST: Final = 4
"""Objects whose events one reconcile reads: the first ones tell enough."""


def troubled(children: Children, now: datetime) -> list[Manifest]:
    """Return the PVCs, Jobs and pods whose own status does not say what is wrong with them; their events do."""
    old_enough = (
        *_older(_unbound(children), PATIENCE_SECONDS, now),
        *_older(_jobs_without_pods(children), CREATION_SECONDS, now),
        *_older(_stuck_pods(children), PATIENCE_SECONDS, now),
    )
    return list(old_enough[:MOST])


def looks_troubled_soon(children: Children) -> bool:
    """Return whether something is not as it should be, however young: worth another look in a few seconds."""
    return any((*_unbound(children), *_jobs_without_pods(children), *_stuck_pods(children)))


def _unbound(children: Children) -> Iterator[Manifest]:
    return (claim for claim in children.claims if claim.get("status", {}).get("phase") != "Bound")


def _jobs_without_pods(children: Children) -> Iterator[Manifest]:
    """A Job that may not create its pod (quota, pod security) says so in events alone."""
    owners = {reference["uid"] for pod in children.pods for reference in pod["metadata"].get("ownerReferences", ())}
    return (job for job in children.jobs if is_running(job) and job["metadata"]["uid"] not in owners)


def _stuck_pods(children: Children) -> Iterator[Manifest]:
    return (pod for pod in children.pods if _waits_for_its_containers(pod))


def _waits_for_its_containers(pod: Manifest) -> bool:
    """Scheduled but not past ContainerCreating: a volume, a Secret or the network is missing."""
    status, spec = pod.get("status", {}), pod.get("spec", {})
    if status.get("phase") != "Pending" or "nodeName" not in spec:
        return False
    states = [container.get("state", {}) for container in status.get("containerStatuses", ())]
    return all(state.get("waiting", {}).get("reason") in ("ContainerCreating", None) for state in states)


def is_running(job: Manifest) -> bool:
    """Return whether a Job is neither finished nor suspended."""
    return not has_finished(job) and not job.get("spec", {}).get("suspend", False)


def loading_pods(children: Children) -> list[Manifest]:
    """Return the pods that run but are not ready: those of a warm-up never are, those of the Deployment while they
    load. A sweep has nothing to tell.
    """
    return [
        pod
        for pod in children.pods
        if pod.get("status", {}).get("phase") == "Running"
        and pod["status"].get("podIP")
        and not is_being_deleted(pod)
        and not _is_ready(pod)
        and names.component(pod) != names.SWEEP
    ]


def _is_ready(pod: Manifest) -> bool:
    is_warmup = any(reference["kind"] == "Job" for reference in pod["metadata"].get("ownerReferences", ()))
    return not is_warmup and is_true(pod, "Ready")


def _older(manifests: Iterator[Manifest], seconds: float, now: datetime) -> Iterator[Manifest]:
    return (manifest for manifest in manifests if _age_seconds(manifest, now) >= seconds)


def _age_seconds(manifest: Manifest, now: datetime) -> float:
    created = datetime.fromisoformat(manifest["metadata"]["creationTimestamp"])
    return (now - created.astimezone(UTC)).total_seconds()
