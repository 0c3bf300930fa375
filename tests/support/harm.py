"""What a child of an LLMService may have at most, written down anew and not taken from the renderer.

`harm` compares with lists of what is harmless, so that a field nobody thought of is found too.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]

_POD_FIELDS = {
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "enableServiceLinks",
    "nodeSelector",
    "restartPolicy",
    "securityContext",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "volumes",
    # Given to every pod by the API server, its controllers and the scheduler.
    "dnsPolicy",
    "nodeName",
    "preemptionPolicy",
    "priority",
    "schedulerName",
    "serviceAccount",
}
_DEFAULTS = {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "priority": 0}
_CONTAINER_FIELDS = {
    "args",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
}
_POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
}
_VARIABLES = re.compile(r"LLMSERVICE_[A-Z0-9_]+|MODEL_NAME|USE_4BIT|MAX_TOKENS|HF_HUB_OFFLINE")
_LABELS = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
    "llmservice.dev/revision",
    "llmservice.dev/cache-claim",
}
_BY_CONTROLLERS = {"pod-template-hash", "controller-uid", "job-name"}
_SERVICE_FIELDS = {"type", "selector", "ports", "sessionAffinity"}
_SERVICE_DEFAULTS = {"clusterIP", "clusterIPs", "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy"}
_WITHOUT_TRACE = ("pwned", "10.0.0.1")


@dataclass(frozen=True)
class Allowed:
    """What the administrator's profile gives, and what the author of the LLMService has a right to."""

    image: str
    tolerations: Collection[str]
    """Keys."""
    claims: Collection[str]
    secrets: Collection[str]
    max_replicas: int


def harm(name: str, uid: str, children: list[Manifest], allowed: Allowed) -> list[str]:
    """Return what the children of the LLMService `name` have that a plain one's have not; empty is harmless."""
    found = []
    for child in children:
        of = f"{child['kind']} {child['metadata']['name']}"
        found += [f"{of}: {what}" for what in _of_child(name, uid, child, allowed)]
    return found


def _of_child(name: str, uid: str, child: Manifest, allowed: Allowed) -> Iterator[str]:
    meta, kind = child["metadata"], child["kind"]
    written = {**child, "metadata": {**meta, "managedFields": None}}
    yield from (f"has the word {word}" for word in _WITHOUT_TRACE if word in json.dumps(written))
    if kind != "Pod":
        owners = [(owner["kind"], owner["name"], owner["uid"]) for owner in meta["ownerReferences"]]
        yield from _unless(owners == [("LLMService", name, uid)], f"belongs to {owners}")
    yield from _surplus("label", meta["labels"], _LABELS | _BY_CONTROLLERS)
    yield from _unless(meta["labels"]["app.kubernetes.io/instance"] == name, "has another instance's label")
    match kind:
        case "Pod":
            yield from _of_pod(name, child, allowed)
        case "Deployment" | "Job":
            yield from _of_pod(name, child["spec"]["template"], allowed)
        case "ControllerRevision":
            yield from _of_pod(name, child["data"]["template"], allowed)
            yield from _of_variables(child["data"]["environment"])
        # The others are files of golden prompts.
        case "ConfigMap" if meta["name"] != f"{name}-proven" and "prompts.json" not in child["data"]:
            yield from _of_variables(child["data"])
        case "Service":
            yield from _of_service(name, child)
        case "NetworkPolicy" | "PodDisruptionBudget":
            selector = child["spec"].get("podSelector") or child["spec"].get("selector")
            yield from _unless(_is_own(name, selector["matchLabels"]), f"selects {selector}")
        case "HorizontalPodAutoscaler":
            target = child["spec"]["scaleTargetRef"]
            yield from _unless((target["kind"], target["name"]) == ("Deployment", name), f"scales {target}")
            yield from _unless(child["spec"]["maxReplicas"] <= allowed.max_replicas, "scales too far")
        case "PersistentVolumeClaim":
            yield from _surplus("field", child["spec"], {"accessModes", "resources", "storageClassName", "volumeMode"})
            yield from _surplus("claim", [meta["name"]], [f"{name}-cache"])
        case "ServiceAccount":
            yield from _unless(child.get("automountServiceAccountToken") is False, "gives its token")
            yield from _surplus("field", child, {"apiVersion", "kind", "metadata", "automountServiceAccountToken"})


def _of_pod(name: str, pod: Manifest, allowed: Allowed) -> Iterator[str]:
    spec, meta = pod["spec"], pod["metadata"]
    yield from _surplus("label", meta["labels"], _LABELS | _BY_CONTROLLERS)
    yield from _unless(_is_own(name, meta["labels"]), "does not have its own labels")
    yield from _surplus("field", spec, _POD_FIELDS)
    yield from (f"{key} is {spec[key]}" for key, value in _DEFAULTS.items() if spec.get(key, value) != value)
    yield from _unless(spec["serviceAccountName"] == f"{name}-llmservice", f"runs as {spec['serviceAccountName']}")
    yield from _unless(spec["automountServiceAccountToken"] is False, "gets a token")
    yield from _unless(spec["enableServiceLinks"] is False, "gets variables of Services")
    yield from _unless(spec["securityContext"] == _POD_SECURITY, f"runs with {spec['securityContext']}")
    # The taints that every pod tolerates for a while, by the API server's own hand.
    own = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"} if pod.get("kind") == "Pod" else set()
    yield from _surplus(
        "toleration", [item.get("key") for item in spec.get("tolerations", ())], {*allowed.tolerations, *own}
    )
    yield from (what for volume in spec["volumes"] for what in _of_volume(volume, allowed))
    (container,) = spec["containers"]
    yield from _of_container(name, container, allowed)


def _of_container(name: str, container: Manifest, allowed: Allowed) -> Iterator[str]:
    yield from _surplus("container field", container, _CONTAINER_FIELDS)
    yield from _unless(container["image"] == allowed.image, f"runs {container['image']}")
    yield from _unless(container["args"] in (["serve"], ["warmup"], ["sweep"]), f"runs {container['args']}")
    yield from _unless(container["securityContext"] == _CONTAINER_SECURITY, f"has {container['securityContext']}")
    yield from _unless(all("hostPort" not in port for port in container.get("ports", ())), "takes a port of its node")
    yield from _surplus("mount", [item["mountPath"] for item in container["volumeMounts"]], _MOUNTS)
    sources = [source["configMapRef"]["name"] for source in container.get("envFrom", ())]
    yield from (f"takes variables from {source}" for source in sources if not source.startswith(f"{name}-config-"))
    plain = {item["name"]: item.get("value", "") for item in container.get("env", ()) if "valueFrom" not in item}
    yield from _of_variables(plain)
    yield from (f"expands {text}" for text in plain.values() if "$(" in text.replace("$$", ""))
    for source in (item["valueFrom"] for item in container.get("env", ()) if "valueFrom" in item):
        secret = source.get("secretKeyRef", {}).get("name")
        is_own = source.get("fieldRef", {}).get("fieldPath") == _OWN_REVISION
        yield from _unless(is_own or secret in allowed.secrets, f"reads {source}")


_MOUNTS = {"/cache", "/model", "/tmp", "/dev/shm", "/etc/llmservice/api-keys", "/etc/llmservice/verification"}
_OWN_REVISION = "metadata.labels['llmservice.dev/revision']"


def _of_volume(volume: Manifest, allowed: Allowed) -> Iterator[str]:
    (kind,) = volume.keys() - {"name"}
    claim, secret = volume.get("persistentVolumeClaim", {}), volume.get("secret", {})
    yield from _surplus("volume", [kind], {"emptyDir", "persistentVolumeClaim", "secret", "projected"})
    projected = [source for each in volume.get("projected", {}).get("sources", ()) for source in each]
    yield from _surplus("projected", projected, {"configMap"})
    yield from _surplus("claim", [claim["claimName"]] if claim else [], allowed.claims)
    yield from _surplus("secret", [secret["secretName"]] if secret else [], allowed.secrets)


def _of_variables(variables: Manifest) -> Iterator[str]:
    yield from (f"sets {variable}" for variable in variables if not _VARIABLES.fullmatch(variable))


def _of_service(name: str, service: Manifest) -> Iterator[str]:
    spec = service["spec"]
    yield from _surplus("field", spec, _SERVICE_FIELDS | _SERVICE_DEFAULTS)
    yield from _surplus("annotation", service["metadata"].get("annotations", {}), {"llmservice.dev/applied-hash"})
    yield from _unless(_is_own(name, spec["selector"]), f"selects {spec['selector']}")
    yield from _unless(spec["type"] == "ClusterIP", f"is a {spec['type']}")
    yield from _unless([port["targetPort"] for port in spec["ports"]] == ["http"], "leads to another port")


def _is_own(name: str, labels: Manifest) -> bool:
    """Whether labels belong to pods of this LLMService and can belong to nobody else's."""
    chosen = {"app.kubernetes.io/name": "llmservice", "app.kubernetes.io/instance": name}
    return chosen.items() <= labels.items() and labels["app.kubernetes.io/component"] in ("server", "warmup", "sweep")


def _surplus(what: str, found: Collection[Any], allowed: Collection[Any]) -> Iterator[str]:
    yield from (f"{what} {item!r}" for item in found if item not in allowed and "batch.kubernetes.io/" not in str(item))


def _unless(holds: bool, otherwise: str) -> Iterator[str]:
    if not holds:
        yield otherwise
