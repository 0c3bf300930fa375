"""Which values the campaign gives to each leaf field of the spec: the edges of what it may be, and others.

A field that is not here, and not among WITHOUT_VALUES, fails a unit test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.stage import VERDICT

Manifest = dict[str, Any]
ABSENT: Final = object()
"""The value of a field that is not there."""


@dataclass(frozen=True)
class Set:
    """A value that a rule ties to others: `together` are set with it, `needs` only where there is nothing."""

    value: Any
    together: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)


_IN_FLIGHT: Final[Manifest] = {
    "metric": {"name": "llmservice_requests_in_flight"},
    "target": {"type": "AverageValue", "averageValue": 6},
}
_PODS_METRIC: Final[Manifest] = {"type": "Pods", "pods": _IN_FLIGHT}
_QUEUE: Final[Manifest] = {"metric": {"name": "queue_depth"}, "target": {"type": "AverageValue", "averageValue": 30}}
_INGRESS: Final[Manifest] = {
    "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "llama"},
    "metric": {"name": "requests_per_second"},
    "target": {"type": "Value", "value": 100},
}
_CPU: Final[Manifest] = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
_SOURCES: Final = ("huggingFace", "pvc", "http", "s3")
_METRICS: Final = ("type", "resource", "pods", "object", "external")
_REQUIREMENT: Final[Manifest] = {"key": "model", "operator": "In", "values": ["tiny"]}
_POLICY: Final[Manifest] = {"type": "Pods", "value": 2, "periodSeconds": 60}
_WINDOW: Final[Manifest] = {"schedule": "0 2 * * SAT"}
_ANONYMOUS: Final[Manifest] = {"auth": {"mode": "Anonymous"}}

BLOCKS: Final[Mapping[str, tuple[Manifest, tuple[str, ...]]]] = {
    "model.source.huggingFace": ({"huggingFace": {"repo": "acme/tiny"}}, _SOURCES),
    "model.source.huggingFace.tokenSecretRef": ({"name": "hub"}, ()),
    "model.source.http": ({"http": {"url": "https://hub.test/tiny.tar", "sha256": "c" * 64}}, _SOURCES),
    "model.source.http.tokenSecretRef": ({"name": "artifacts"}, ()),
    "model.source.s3": ({"s3": {"uri": "s3://models/tiny", "endpoint": "https://hub.test"}}, _SOURCES),
    "model.source.s3.credentialsSecretRef": ({"name": "buckets"}, ()),
    "model.source.pvc": ({"pvc": {"claimName": "models"}}, _SOURCES),
    "scheduling.tolerations[]": ({"key": "dedicated"}, ()),
    "auth": ({"mode": "APIKey", "apiKeysSecretRef": {"name": "keys"}}, ()),
    "rollout.verification": ({"prompts": [{"prompt": "1 + 1 ="}]}, ()),
    "rollout.verification.prompts[]": ({"prompt": "1 + 1 ="}, ()),
    "upgradePolicy.window": (_WINDOW, ()),
    "disruption": ({"maxUnavailable": 1}, ()),
    "networkPolicy": ({"mode": "Restricted"}, ()),
    "scaling": ({"provider": "HPA", "maxReplicas": 3, "metrics": [_PODS_METRIC]}, ()),
    "scaling.metrics[].resource": ({"type": "Resource", "resource": _CPU}, _METRICS),
    "scaling.metrics[].pods": (_PODS_METRIC, _METRICS),
    "scaling.metrics[].object": ({"type": "Object", "object": _INGRESS}, _METRICS),
    "scaling.metrics[].external": ({"type": "External", "external": _QUEUE}, _METRICS),
    **{f"scaling.metrics[].{kind}.metric.selector.matchExpressions[]": (_REQUIREMENT, ()) for kind in _METRICS[2:]},
    **{f"scaling.behavior.{way}.policies[]": (_POLICY, ()) for way in ("scaleUp", "scaleDown")},
}
"""What a block has to hold that a field is set in, and which fields beside it it takes the place of."""


def _selector(path: str) -> Manifest:
    selector = f"{path}.metric.selector"
    requirement = f"{selector}.matchExpressions[]"
    return {
        f"{path}.metric.name": ("tokens_waiting", "requests_waiting"),
        f"{selector}.matchLabels": ({"model": "tiny"}, {"model": "tiny", "tenant": "a"}, {}),
        f"{requirement}.key": ("tenant", "model"),
        f"{requirement}.operator": (
            Set("NotIn", needs={f"{requirement}.values": ["tiny"]}),
            Set("Exists", together={f"{requirement}.values": ABSENT}),
            Set("DoesNotExist", together={f"{requirement}.values": ABSENT}),
            Set("In", needs={f"{requirement}.values": ["tiny"]}),
        ),
        f"{requirement}.values": (
            Set(["tiny", "small"], together={f"{requirement}.operator": "In"}),
            Set(["small"], together={f"{requirement}.operator": "NotIn"}),
        ),
    }


def _target(path: str, *kinds: str) -> Manifest:
    """Return the values of a metric's target, which has one field for each of its types."""
    fields = {"Utilization": "averageUtilization", "AverageValue": "averageValue", "Value": "value"}
    values: dict[str, tuple[Any, ...]] = {
        "Utilization": (50, 90),
        "AverageValue": ("500m", 7, "1.5k"),
        "Value": ("90", 2, "0.25"),
    }

    def of_kind(kind: str) -> Manifest:
        others = {f"{path}.{name}": ABSENT for name in fields.values() if name != fields[kind]}
        return {**others, f"{path}.type": kind}

    found: Manifest = {
        f"{path}.{fields[kind]}": tuple(Set(value, together=of_kind(kind)) for value in values[kind]) for kind in kinds
    }
    first = {kind: {f"{path}.{fields[kind]}": values[kind][0]} for kind in kinds}
    found[f"{path}.type"] = tuple(Set(kind, together={**of_kind(kind), **first[kind]}) for kind in kinds)
    return found


def _rules(path: str) -> Manifest:
    return {
        f"{path}.stabilizationWindowSeconds": (0, 30, 600),
        f"{path}.selectPolicy": ("Max", "Min", "Disabled"),
        f"{path}.policies[].type": ("Percent", "Pods"),
        f"{path}.policies[].value": (1, 100),
        f"{path}.policies[].periodSeconds": (15, 1800),
    }


_METRIC: Final = "scaling.metrics[]"


def _metric(**block: Manifest) -> Set:
    (kind,) = block
    together = {f"{_METRIC}.{other}": ABSENT for other in _METRICS[1:] if other != kind}
    return Set(kind.capitalize(), together={**together, f"{_METRIC}.{kind}": block[kind]})


VALUES: Final[Mapping[str, tuple[Any, ...]]] = {
    "suspend": (True,),
    "paused": (True,),
    "replicas": (0, 2, 3),
    "profile": ("cpu", "large"),
    "model.source.huggingFace.repo": ("acme/small", "acme/tiny"),
    "model.source.huggingFace.revision": ("v1.0", "refs/pr/1"),
    "model.source.huggingFace.endpoint": ("https://hub.test", "https://hub.test/", "https://huggingface.co"),
    "model.source.huggingFace.tokenSecretRef.name": ("hub", "other-hub"),
    "model.source.huggingFace.tokenSecretRef.key": ("hf", "token.txt"),
    "model.source.pvc.claimName": ("models", "more-models"),
    "model.source.pvc.path": ("acme/tiny", "acme/small"),
    "model.source.http.url": ("https://hub.test/small.tar.gz", "https://hub.test/models/tiny.zip?signature=a"),
    "model.source.http.sha256": ("a" * 64, "b" * 64),
    "model.source.http.tokenSecretRef.name": ("artifacts", "other-artifacts"),
    "model.source.http.tokenSecretRef.key": ("http", "token.txt"),
    "model.source.s3.uri": ("s3://models/small", "s3://more-models/tiny/"),
    "model.source.s3.endpoint": ("https://hub.test", "https://hub.test:443"),
    "model.source.s3.region": ("eu-central-1",),
    "model.source.s3.credentialsSecretRef.name": ("buckets", "other-buckets"),
    "model.digest": (VERDICT["digest"],),
    "model.servedName": ("tiny", "acme/tiny:latest"),
    "engine.quantization.method": ("BitsAndBytesNF4", "BitsAndBytesFP4", "BitsAndBytesInt8", "None"),
    "engine.quantization.computeDtype": ("BFloat16", "Float16", "Float32"),
    "engine.quantization.doubleQuant": (False,),
    "engine.maxModelLen": (128, 2048, 10_000_000),
    "engine.batching.maxBatchSize": (1, 256),
    "engine.batching.maxQueueDepth": (0, 10000),
    "resources.gpu.count": (0, 1),
    "resources.gpu.resourceName": (Set("nvidia.com/mig-1g.10gb", needs={"resources.gpu.count": 1}), "amd.com/gpu"),
    "resources.requests": ({"cpu": "500m"}, {"cpu": 1, "memory": "1024Mi", "ephemeral-storage": "1.5Gi"}, {}),
    "resources.limits": ({"memory": "32Gi"}, {"cpu": "4000m", "ephemeral-storage": "2Gi"}, {}),
    "resources.sharedMemory": ("1Gi", "2048Mi"),
    "scheduling.nodeSelector": ({"pool": "gpu"}, {"pool": "cpu", "acme.com/zone": ""}, {}),
    "scheduling.tolerations[].key": ("nvidia.com/gpu", "spot"),
    "scheduling.tolerations[].operator": (Set("Exists", together={"scheduling.tolerations[].value": ABSENT}), "Equal"),
    "scheduling.tolerations[].value": (Set("yes", together={"scheduling.tolerations[].operator": "Equal"}), ""),
    "scheduling.tolerations[].effect": ("NoSchedule", "PreferNoSchedule", "NoExecute"),
    "scheduling.tolerations[].tolerationSeconds": (
        Set(0, together={"scheduling.tolerations[].effect": "NoExecute"}),
        Set(300, together={"scheduling.tolerations[].effect": "NoExecute"}),
    ),
    "scheduling.priorityClassName": ("campaign-low", "campaign-high"),
    "scheduling.runtimeClassName": ("campaign-runc", "campaign-kata"),
    "cache.claimName": ("shared-models", "other-models"),
    "cache.size": ("1Gi", "60Gi", "20Gi"),
    "cache.storageClassName": ("campaign-fast", "campaign-slow"),
    "cache.accessMode": ("ReadWriteMany", "ReadWriteOnce"),
    "cache.reclaimPolicy": ("Retain",),
    "cache.warmup.backoffLimit": (0, 5),
    "cache.warmup.timeoutSeconds": (600, 86400),
    "service.type": (Set("NodePort", needs=_ANONYMOUS), Set("LoadBalancer", needs=_ANONYMOUS)),
    "service.port": (8080, 65535),
    "service.sessionAffinity": ("ClientIP",),
    "service.annotations": ({"acme.com/internal": "true"}, {"acme.com/internal": "", "acme.com/dns": "llm"}, {}),
    "service.loadBalancerSourceRanges": (["203.0.113.0/24"], ["2001:db8::/32", "192.0.2.0/24"], []),
    "service.loadBalancerClass": ("acme.com/internal", "acme.com/external"),
    "auth.mode": (
        Set("Anonymous", together={"auth.apiKeysSecretRef": ABSENT}),
        Set("APIKey", needs={"auth.apiKeysSecretRef": {"name": "keys"}}),
    ),
    "auth.apiKeysSecretRef.name": (Set("keys", together={"auth.mode": "APIKey"}), "other-keys"),
    "scaling.provider": ("HPA",),
    "scaling.minReplicas": (2, Set(3, together={"scaling.maxReplicas": 4})),
    "scaling.maxReplicas": (1, 4),
    "scaling.metrics[].type": (
        _metric(resource=_CPU),
        _metric(pods=_IN_FLIGHT),
        _metric(object=_INGRESS),
        _metric(external=_QUEUE),
    ),
    "scaling.metrics[].resource.name": ("memory", "cpu"),
    **_target("scaling.metrics[].resource.target", "Utilization", "AverageValue"),
    **_selector("scaling.metrics[].pods"),
    **_target("scaling.metrics[].pods.target", "AverageValue"),
    "scaling.metrics[].object.describedObject.apiVersion": ("apps/v1",),
    "scaling.metrics[].object.describedObject.kind": ("Service", "Ingress"),
    "scaling.metrics[].object.describedObject.name": ("gateway", "llama"),
    **_selector("scaling.metrics[].object"),
    **_target("scaling.metrics[].object.target", "AverageValue", "Value"),
    **_selector("scaling.metrics[].external"),
    **_target("scaling.metrics[].external.target", "AverageValue", "Value"),
    **_rules("scaling.behavior.scaleUp"),
    **_rules("scaling.behavior.scaleDown"),
    "rollout.strategy": ("Surge", "Recreate"),
    "rollout.progressDeadlineSeconds": (600, 86400),
    "rollout.onFailure": ("Hold",),
    "rollout.revisionHistoryLimit": (1, 20),
    "rollout.drainTimeoutSeconds": (0, 3600),
    "rollout.verification.timeoutSeconds": (1, 3600),
    "rollout.verification.prompts[].prompt": ("1 + 1 =", "$(HOME)"),
    "rollout.verification.prompts[].maxTokens": (1, 4096),
    "rollout.verification.prompts[].expectAnyOf": (["2"], ["2", "two"], []),
    "upgradePolicy.mode": (
        Set("Auto", together={"upgradePolicy.window": ABSENT}),
        Set("Window", needs={"upgradePolicy.window": _WINDOW}),
        Set("Manual", together={"upgradePolicy.window": ABSENT}),
    ),
    **{
        f"upgradePolicy.window.{name}": tuple(Set(value, together={"upgradePolicy.mode": "Window"}) for value in values)
        for name, values in {
            "schedule": ("0 2 * * SAT", "*/30 1,2 1-7 JAN *"),
            "timeZone": ("Europe/Berlin", "America/Argentina/Buenos_Aires"),
            "durationSeconds": (900, 604800),
        }.items()
    },
    "disruption.maxUnavailable": ("50%", 2, 1),
    "networkPolicy.mode": ("Offline", "Restricted", "None"),
    "networkPolicy.allowFromNamespaces": (["apps"], ["apps", "jobs"], []),
    "observability.logFormat": ("Text",),
}

WITHOUT_VALUES: Final = frozenset(
    {
        "scaling.metrics[].resource.target.value",
        "scaling.metrics[].pods.target.averageUtilization",
        "scaling.metrics[].pods.target.value",
        "scaling.metrics[].object.target.averageUtilization",
        "scaling.metrics[].external.target.averageUtilization",
    }
)
"""The rules of the API refuse each of these: the kind of metric has no target of that type."""
