"""LLMServices, settings and live children for tests: what a test does not name has a plain value.

`as_live` turns a rendered manifest into what the API server and the controllers would show for it, so that a test can
play a cluster by hand: render, make live, change one thing, ask again.
"""

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import desired
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService, parse
from llmservice_operator.settings import Settings
from llmservice_operator.settings import parse as parse_settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CREATED = "2026-01-02T03:00:00Z"
STARTED = "2026-01-02T03:01:00Z"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "sha256:" + "ab" * 32
VERDICT: Manifest = {
    "outcome": "Downloaded",
    "commit": COMMIT,
    "digest": DIGEST,
    "path": "quantized/5f2b6c0d9e8a7b41",
    "quantization": "nf4",
    "bytes": 1_500_000_000,
}
"""The verdict of a warm-up that downloaded and quantized."""

SHAPE: Manifest = {
    "linear_weights": 2_818_572_288,
    "widest_linear": 25_165_824,
    "other_weights": 394_177_536,
    "quantization": "none",
    "dtype": "bfloat16",
    "kv_numbers": 57_344,
    "context": 131_072,
    "vocabulary": 128_256,
    "row_numbers": 11_264,
}
"""What a warm-up says of Llama 3.2 3B: 3.2 billion weights, 112 KiB of keys and values for a token."""


def make_llmservice(
    name: str = "gemma",
    *,
    repo: str = "google/gemma-3-270m",
    source: Manifest | None = None,
    generation: int = 1,
    annotations: dict[str, str] | None = None,
    deletion_timestamp: str | None = None,
    status: Manifest | None = None,
    **spec: Any,
) -> LLMService:
    """Return an LLMService of a hub's model; keywords are fields of its spec, camelCase."""
    model = {"source": source or {"huggingFace": {"repo": repo}}, **spec.pop("model", {})}
    metadata = {
        "name": name,
        "namespace": "team-a",
        "uid": f"uid-of-{name}",
        "generation": generation,
        "annotations": annotations or {},
        "deletionTimestamp": deletion_timestamp,
    }
    return parse({"metadata": metadata, "spec": {"model": model, **spec}, "status": status or {}})


def make_settings(*, profile: Manifest | None = None, **settings: Any) -> Settings:
    """Return settings with one profile, `cpu`, that is the default; `profile` are its fields, keywords further
    settings.
    """
    content = {
        "defaultProfile": "cpu",
        "images": {"server": "registry.example.com/llmservice/server:1.0.0"},
        "profiles": {"cpu": profile or {}},
        **settings,
    }
    return parse_settings(content)


def as_live(manifest: Manifest, *, generation: int = 1) -> Manifest:
    """Return a rendered manifest as the API server shows it right after it was created."""
    live = copy.deepcopy(manifest)
    live["metadata"] |= {
        "uid": f"uid-of-{manifest['kind'].lower()}-{manifest['metadata']['name']}",
        "resourceVersion": "1",
        "creationTimestamp": CREATED,
        "generation": generation,
    }
    if manifest["kind"] == "Deployment":
        live["spec"].setdefault("replicas", 1)
    return live


def children_of(*live: Manifest, **others: Any) -> Children:
    """Return a snapshot that has these live objects, told apart by kind."""
    kinds: dict[str, list[Manifest]] = {}
    for item in live:
        kinds.setdefault(item["kind"], []).append(item)
    return Children(
        deployment=next(iter(kinds.get("Deployment", ())), None),
        service=next(iter(kinds.get("Service", ())), None),
        service_account=next(iter(kinds.get("ServiceAccount", ())), None),
        autoscaler=next(iter(kinds.get("HorizontalPodAutoscaler", ())), None),
        disruption_budget=next(iter(kinds.get("PodDisruptionBudget", ())), None),
        network_policies=tuple(kinds.get("NetworkPolicy", ())),
        claims=tuple(kinds.get("PersistentVolumeClaim", ())),
        config_maps=tuple(kinds.get("ConfigMap", ())),
        revisions=tuple(kinds.get("ControllerRevision", ())),
        jobs=tuple(kinds.get("Job", ())),
        pods=tuple(kinds.get("Pod", ())),
        **others,
    )


def manifest_of(manifests: tuple[Manifest, ...], kind: str) -> Manifest:
    """Return the one manifest of `kind`.

    Raises:
        LookupError: there is none, or more than one.
    """
    found = [manifest for manifest in manifests if manifest["kind"] == kind]
    if len(found) != 1:
        raise LookupError(f"{len(found)} manifests of kind {kind} among {[item['kind'] for item in manifests]}")
    return found[0]


def make_pod(owner: Manifest, number: int = 0, **status: Any) -> Manifest:
    """Return a pod of a live Deployment or Job, on a node; `status` are fields of its status."""
    template = owner["spec"]["template"]
    name = f"{owner['metadata']['name']}-{number}"
    metadata = {
        **copy.deepcopy(template["metadata"]),
        "name": name,
        "namespace": owner["metadata"]["namespace"],
        "uid": f"uid-of-pod-{name}-{template['metadata']['labels'].get(names.REVISION_LABEL, '')}",
        "creationTimestamp": CREATED,
    }
    if owner["kind"] == "Job":
        metadata["ownerReferences"] = [{"kind": "Job", "uid": owner["metadata"]["uid"]}]
    spec = {**copy.deepcopy(template["spec"]), "nodeName": "node-1"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def ready_pod(deployment: Manifest, number: int = 0) -> Manifest:
    """Return a pod that gets requests."""
    container = {"name": names.SERVER_CONTAINER, "state": {"running": {"startedAt": STARTED}}, "restartCount": 0}
    return make_pod(
        deployment,
        number,
        phase="Running",
        conditions=[
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True", "lastTransitionTime": STARTED},
        ],
        containerStatuses=[container],
    )


def waiting_pod(owner: Manifest, reason: str, message: str = "", number: int = 0) -> Manifest:
    """Return a pod whose container waits with a reason of the kubelet."""
    name = owner["spec"]["template"]["spec"]["containers"][0]["name"]
    image = owner["spec"]["template"]["spec"]["containers"][0]["image"]
    waiting = {"reason": reason, "message": message}
    container = {"name": name, "image": image, "state": {"waiting": waiting}, "restartCount": 0}
    return make_pod(owner, number, phase="Pending", containerStatuses=[container])


def crashing_pod(owner: Manifest, *, number: int = 0, restarts: int = 3, **terminated: Any) -> Manifest:
    """Return a pod in back-off after its container ended; `terminated` are fields of how it ended."""
    pod = waiting_pod(owner, "CrashLoopBackOff", number=number)
    pod["status"]["phase"] = "Running"
    pod["status"]["containerStatuses"][0] |= {"lastState": {"terminated": terminated}, "restartCount": restarts}
    return pod


def unschedulable_pod(owner: Manifest, words: str, number: int = 0, since: str = STARTED) -> Manifest:
    """Return a pod that the scheduler has found no node for, since then."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    condition["lastTransitionTime"] = since
    pod = make_pod(owner, number, phase="Pending", conditions=[condition])
    del pod["spec"]["nodeName"]
    return pod


def ended_pod(job: Manifest, message: Manifest | str, *, exit_code: int = 0, number: int = 0) -> Manifest:
    """Return a pod of a Job that ended with this termination message."""
    text = message if isinstance(message, str) else json.dumps({"schema": 1, **message})
    terminated = {"exitCode": exit_code, "message": text}
    container = {"name": names.WARMUP_CONTAINER, "state": {"terminated": terminated}}
    return make_pod(job, number, phase="Failed" if exit_code else "Succeeded", containerStatuses=[container])


def make_event(about: Manifest, reason: str, message: str) -> Manifest:
    """Return an event about a live object."""
    return {
        "involvedObject": {"uid": about["metadata"]["uid"]},
        "reason": reason,
        "message": message,
        "lastTimestamp": STARTED,
    }


def complete(job: Manifest) -> Manifest:
    """Return a live Job that succeeded."""
    return {**job, "status": {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": STARTED}]}}


def failed(job: Manifest, *, at: str = STARTED, reason: str = "PodFailurePolicy") -> Manifest:
    """Return a live Job that failed."""
    condition = {"type": "Failed", "status": "True", "reason": reason, "lastTransitionTime": at}
    return {**job, "status": {"conditions": [condition]}}


def rolled_out(deployment: Manifest, **status: Any) -> Manifest:
    """Return a live Deployment whose controller is done; `status` are fields that differ from that."""
    replicas = deployment["spec"]["replicas"]
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
    return {
        **deployment,
        "status": {"observedGeneration": deployment["metadata"]["generation"], **counts, **status},
    }


def bound(claim: Manifest) -> Manifest:
    """Return a live PVC that has its volume."""
    return {**claim, "status": {"phase": "Bound"}}


def caching(llmservice: LLMService, settings: Settings) -> Children:
    """Return the children of `llmservice` while its warm-up runs."""
    first = [as_live(item) for item in desired(llmservice, Children(), settings, NOW).manifests]
    volumes = [bound(item) if item["kind"] == "PersistentVolumeClaim" else item for item in first]
    second = desired(llmservice, children_of(*volumes), settings, NOW).manifests
    job = as_live(manifest_of(second, "Job"))
    container = {"name": names.WARMUP_CONTAINER, "state": {"running": {"startedAt": STARTED}}}
    pod = make_pod(job, phase="Running", containerStatuses=[container])
    return children_of(*volumes, job, pod)


def cached(llmservice: LLMService, settings: Settings, verdict: Manifest = VERDICT) -> Children:
    """Return the children of `llmservice` when its warm-up has just succeeded."""
    before = caching(llmservice, settings)
    job = complete(before.jobs[0])
    return children_of(
        *before.claims, *(item for item in [before.service] if item), job, ended_pod(job, {"verdict": verdict})
    )


def serving(llmservice: LLMService, settings: Settings, verdict: Manifest = VERDICT) -> Children:
    """Return the children of `llmservice` when everything it asks for is there."""
    source = llmservice.spec.model.source
    before = Children() if source.pvc or source.image else cached(llmservice, settings, verdict)
    live = [as_live(item) for item in desired(llmservice, before, settings, NOW).manifests]
    deployment = rolled_out(manifest_of(tuple(live), "Deployment"))
    rest = [item for item in live if item["kind"] not in ("Deployment", "PersistentVolumeClaim", "Job")]
    claims = [bound(item) for item in live if item["kind"] == "PersistentVolumeClaim"]
    pods = [ready_pod(deployment, number) for number in range(deployment["spec"]["replicas"])]
    children = children_of(deployment, *rest, *claims, *before.jobs, *before.pods, *pods)
    kept = manifest_of(desired(llmservice, children, settings, NOW).manifests, "ControllerRevision")
    return replace(children, revisions=(as_live(kept),))
