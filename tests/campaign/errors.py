"""Every kind of error that an edit of the spec can end in: the edit, what the world does to it, and how it is told.

Among them are rows of bad input that a condition tells: C05, C07, C08, C09, C10, C17, C22, C30, C33, C34, C36, C37,
C39, C44, C54 and C57.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, get_args

from inference_server.cache.failures import Incurable, Transient
from tests.campaign.run import NAME
from tests.support import fates
from tests.support.played_node import Fate
from tests.support.stage import failure

Manifest = dict[str, Any]
Change = Callable[[Manifest, int], Manifest]
"""From a spec and a number that no other error has, to the spec of the error."""


@dataclass(frozen=True)
class ErrorState:
    """What goes wrong with one edit."""

    name: str
    change: Change
    reason: str
    """Of Ready=False."""
    autoscaling: bool = False
    """The reason is that of AutoscalingActive=False: the replicas there are stay ready."""
    server: Fate | None = None
    """Of server pods that the edit makes."""
    warmup: Fate | None = None
    """Of warm-up pods."""
    setting: tuple[Manifest, ...] = ()
    """Objects of somebody else that are there meanwhile."""
    is_own_fault: bool = False
    """The change is taken back where `onFailure` is Rollback."""
    lacks: str = ""
    """Only for specs without this field."""

    def fits(self, spec: Manifest) -> bool:
        """Whether the edit makes this error of a spec."""
        return self.lacks not in spec

    def shown(self, spec: Manifest) -> tuple[str, str, str]:
        """Return type, status and reason of the condition that tells."""
        is_taken_back = self.is_own_fault and spec.get("rollout", {}).get("onFailure") != "Hold"
        kind = "AutoscalingActive" if self.autoscaling else "Ready"
        return kind, "False", "RolledBack" if is_taken_back else self.reason


def errors() -> list[ErrorState]:
    """Return all of them."""
    found = [*_refused_by_the_operator(), *_refused_by_the_api_server(), *_of_the_cluster(), *_of_servers()]
    found += [*_of_warmups(), *_of_names(), *_of_autoscalers()]
    assert len({error.name for error in found}) == len(found)
    return found


def _merged(patch: Manifest) -> Change:
    return lambda spec, number: _merge(spec, patch)


def _merge(value: Manifest, patch: Manifest) -> Manifest:
    """Return a JSON merge patch (RFC 7386) applied."""
    merged = {key: inner for key, inner in copy.deepcopy(value).items() if patch.get(key, "") is not None}
    for key, inner in patch.items():
        if isinstance(inner, dict):
            before = merged.get(key)
            merged[key] = _merge(before if isinstance(before, dict) else {}, inner)
        elif inner is not None:
            merged[key] = inner
    return merged


def _other_pods(spec: Manifest, number: int) -> Manifest:
    """Return a change of the pods: to a revision that no other error has, because one that failed is remembered."""
    return _merge(spec, {"engine": {"maxModelLen": 1000 + number}})


def _other_model(spec: Manifest, number: int) -> Manifest:
    hub = {"repo": "acme/tiny", "revision": f"error-{number}"}
    return _merge(spec, {"model": {"source": {"huggingFace": hub, "pvc": None}}})


def _on_hub(hub: Manifest) -> Change:
    return lambda spec, number: _merge(_other_model(spec, number), {"model": {"source": {"huggingFace": hub}}})


def _on_volume(cache: Manifest) -> Change:
    return lambda spec, number: _merge(_other_model(spec, number), {"cache": cache})


def _outside(service: Manifest) -> Manifest:
    return {"service": {"type": "LoadBalancer", **service}, "auth": {"mode": "Anonymous", "apiKeysSecretRef": None}}


def _refused_by_the_operator() -> Iterator[ErrorState]:
    yield ErrorState("no such profile", _merged({"profile": "missing"}), "ProfileNotFound")
    yield ErrorState("endpoint", _on_hub({"endpoint": "http://10.0.0.1"}), "EndpointNotAllowed")
    for name, window in (
        ("schedule", {"schedule": "0 2 31 2 *"}),
        ("time zone", {"schedule": "0 2 * * *", **_NOWHERE}),
    ):
        policy = {"upgradePolicy": {"mode": "Window", "window": window}}
        yield ErrorState(f"no such {name}", _merged(policy), "ScheduleInvalid")
    yield ErrorState("strict profile, replicas", _too_many, "NotAllowedByProfile")
    patches: dict[str, Manifest] = {
        "service type": _outside({}),
        "service annotations": {"service": {"annotations": {"other.com/x": "y"}}},
        "node selector": {"scheduling": {"nodeSelector": {"zone": "a"}}},
        "tolerations": {"scheduling": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}},
        "priority class": {"scheduling": {"priorityClassName": "campaign-high"}},
        "runtime class": {"scheduling": {"runtimeClassName": "campaign-kata"}},
        "storage class": {"cache": {"storageClassName": "campaign-slow"}},
        "GPU resource": {"resources": {"gpu": {"count": 1, "resourceName": "amd.com/gpu"}}},
        "requests": {"resources": {"requests": {"memory": "512Mi"}}},
        "limits": {"resources": {"limits": {"memory": "512Mi"}}},
    }
    for name, patch in patches.items():
        yield ErrorState(f"strict profile, {name}", _merged({"profile": "strict", **patch}), "NotAllowedByProfile")


_NOWHERE: Final[Manifest] = {"timeZone": "Europe/Atlantis"}


def _too_many(spec: Manifest, number: int) -> Manifest:
    patch = {"scaling": {"maxReplicas": 9}} if "scaling" in spec else {"replicas": 9}
    return _merge(spec, {"profile": "strict", **patch})


def _refused_by_the_api_server() -> Iterator[ErrorState]:
    bad = {"no key!": "x"}
    nothing = {**_METRICS["Object"], "describedObject": {"kind": "no/kind", "name": NAME}}
    patches: dict[str, Manifest] = {
        "service annotations": {"service": {"annotations": bad}},
        "node selector": {"scheduling": {"nodeSelector": bad}},
        "tolerations": {"scheduling": {"tolerations": [{"key": "no key!", "operator": "Exists"}]}},
        "priority class": {"scheduling": {"priorityClassName": "No Name"}},
        "runtime class": {"scheduling": {"runtimeClassName": "No Name"}},
        "source ranges": _outside({"loadBalancerSourceRanges": ["192.0.2.0/99"]}),
        "load balancer class": _outside({"loadBalancerClass": "no class!"}),
        "described object": {"scaling": {**_scaling("Object"), "metrics": [{"type": "Object", "object": nothing}]}},
    }
    for name, patch in patches.items():
        yield ErrorState(f"refused {name}", _merged(patch), "RejectedByServer")
    yield ErrorState("refused storage class", _on_volume({"storageClassName": "No Name"}), "RejectedByServer")


def _of_the_cluster() -> Iterator[ErrorState]:
    missing = _on_volume({"storageClassName": "missing"})
    yield ErrorState("no such storage class", missing, "StorageClassNotFound", warmup=fates.stays)
    for kind in ("priority", "runtime"):
        patch = {"scheduling": {f"{kind}ClassName": "missing"}}
        yield ErrorState(f"no such {kind} class", _merged(patch), f"{kind.capitalize()}ClassNotFound")
    greedy = _merged({"resources": {"requests": {"cpu": "1000"}}})
    yield ErrorState("quota of cpu", greedy, "QuotaExceeded", setting=(_quota({"requests.cpu": "100"}),))
    slow, claims = "campaign-slow", "storageclass.storage.k8s.io/persistentvolumeclaims"
    full = (_quota({f"{slow}.{claims}": "0"}),)
    yield ErrorState("quota of claims", _on_volume({"storageClassName": slow}), "QuotaExceeded", setting=full)
    for name, (words, reason) in _SCHEDULER.items():
        fate = fates.finds_no_node(words)
        yield ErrorState(f"server, {name}", _other_pods, reason, server=fate)
        yield ErrorState(f"warm-up, {name}", _other_model, reason, warmup=fate)


_SCHEDULER: Final = {
    "no GPU": ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", "InsufficientGPU"),
    "no memory": ("0/1 nodes are available: 1 Insufficient memory.", "InsufficientResources"),
    "no matching node": (
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        "NoMatchingNode",
    ),
    "taint": ("0/1 nodes are available: 1 node(s) had untolerated taint {dedicated: x}.", "TaintNotTolerated"),
    "other words": ("0/1 nodes are available: 1 node(s) were unschedulable.", "Unschedulable"),
    "no such claim": ('persistentvolumeclaim "missing" not found', "VolumeUnusable"),
    "unbound claim": ("pod has unbound immediate PersistentVolumeClaims.", "VolumePending"),
}


def _quota(hard: Manifest) -> Manifest:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"}, "spec": {"hard": hard}}


def _hurried(spec: Manifest, number: int) -> Manifest:
    return _merge(_other_pods(spec, number), {"rollout": {"progressDeadlineSeconds": 10}})


def _verified(spec: Manifest, number: int) -> Manifest:
    prompts = [{"prompt": "1 + 1 =", "expectAnyOf": ["2"]}]
    return _merge(_other_pods(spec, number), {"rollout": {"verification": {"prompts": prompts}}})


def _of_servers() -> Iterator[ErrorState]:
    for name, fate, reason in (
        ("crash", fates.crashes(), "CrashLoop"),
        ("out of memory", fates.crashes(reason="OOMKilled", exit_code=137), "OutOfMemory"),
        ("no such image", fates.waits("ErrImagePull", "registry.test/server:1: not found"), "ImagePullFailed"),
        ("no image name", fates.waits("InvalidImageName", "couldn't parse image name"), "ImagePullFailed"),
        *(
            (reason, fates.crashes(exit_code=65, message=failure(reason)), reason)
            for reason in ("EngineFailed", "ModelInvalid", "ModelUnsupported", "ContextTooLong", "QuantizationConflict")
        ),
    ):
        yield ErrorState(f"server, {name}", _other_pods, reason, server=fate, is_own_fault=True)
    for reason in ("PromptFailed", "PromptTimedOut"):
        fate = fates.crashes(exit_code=65, message=failure(reason))
        yield ErrorState(f"server, {reason}", _verified, reason, server=fate, is_own_fault=True)
    slow = fates.waits("ContainerCreating")
    yield ErrorState("server, not ready in time", _hurried, "RolloutHeld", server=slow, is_own_fault=True)
    for name, fate, reason in (
        ("registry out of reach", fates.waits("ImagePullBackOff", "dial tcp: i/o timeout"), "ImagePullFailed"),
        ("keys", fates.crashes(exit_code=78, message=failure("AuthSecretInvalid")), "AuthSecretInvalid"),
        ("no Secret", fates.waits("CreateContainerConfigError", 'secret "keys" not found'), "SecretNotFound"),
        ("no Secret to mount", fates.mounts_nothing('references secret "keys" not found'), "SecretNotFound"),
        ("no volume to mount", fates.mounts_nothing("rpc error: volume is not attached"), "VolumeUnusable"),
        ("cannot be created", fates.waits("CreateContainerError", "no space left"), "ReplicasUnavailable"),
    ):
        yield ErrorState(f"server, {name}", _other_pods, reason, server=fate)


def _of_warmups() -> Iterator[ErrorState]:
    for reason in get_args(Incurable):
        yield ErrorState(f"warm-up, {reason}", _other_model, reason, warmup=fates.ends(reason, 65))
    for reason in get_args(Transient):
        yield ErrorState(f"warm-up, {reason}", _other_model, reason, warmup=fates.ends(reason, 75))
    missing = _on_hub({"tokenSecretRef": {"name": "hub", "key": "token"}})
    no_key = "couldn't find key token in Secret play/hub"
    for name, change, fate, reason in (
        ("no Secret", missing, fates.waits("CreateContainerConfigError", 'secret "hub" not found'), "SecretNotFound"),
        ("no key in the Secret", missing, fates.waits("CreateContainerConfigError", no_key), "SecretKeyInvalid"),
        ("no image", _other_model, fates.waits("ErrImagePull", "not found"), "ImagePullFailed"),
        ("no volume", _other_model, fates.mounts_nothing("rpc error: volume is not attached"), "VolumeUnusable"),
    ):
        yield ErrorState(f"warm-up, {name} (kubelet)", change, reason, warmup=fate)


def _of_names() -> Iterator[ErrorState]:
    labels = {"matchLabels": {"app": "theirs"}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"selector": labels}}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": labels}}
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "theirs"}, "maxReplicas": 2},
    }
    for field, block, theirs, name in (
        ("disruption", {"maxUnavailable": 1}, budget, NAME),
        ("networkPolicy", {"mode": "Restricted"}, policy, f"{NAME}-server"),
        ("scaling", _scaling("Pods"), scaler, NAME),
    ):
        foreign = {**theirs, "metadata": {"name": name}}
        change = _merged({field: block})
        yield ErrorState(f"name taken, {field}", change, "ChildNameConflict", setting=(foreign,), lacks=field)


def _of_autoscalers() -> Iterator[ErrorState]:
    for kind in _METRICS:
        change = _merged({"scaling": _scaling(kind)})
        yield ErrorState(f"no {kind} metrics", change, "MetricsAPIMissing", autoscaling=True, lacks="scaling")


_METRICS: Final[Manifest] = {
    "Pods": {"metric": {"name": "in_flight"}, "target": {"type": "AverageValue", "averageValue": 6}},
    "Resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    "External": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": 30}},
    "Object": {
        "describedObject": {"apiVersion": "v1", "kind": "Service", "name": NAME},
        "metric": {"name": "rate"},
        "target": {"type": "Value", "value": 10},
    },
}


def _scaling(kind: str) -> Manifest:
    return {"provider": "HPA", "maxReplicas": 2, "metrics": [{"type": kind, kind.lower(): _METRICS[kind]}]}
