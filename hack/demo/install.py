"""Put the operator and the demo's model hub on a cluster, and take them off again."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from demo.kubectl import Kubectl, Manifest, condition, wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
OPERATOR_NAMESPACE = "llmservice-system"
HUB_NAMESPACE = "llmservice-hub"
HUB_ENDPOINT = f"http://hub.{HUB_NAMESPACE}.svc"
TINY_REPO = "llmservice/tiny-llama"
# Asks for this token: what the demo's hub guards is a few random numbers.
GATED_REPO, GATED_TOKEN = "llmservice/gated-tiny-llama", "token-of-the-demo-hub"
# What a pod must state to be admitted where Pod Security "restricted" is enforced.
RESTRICTED_LABELS = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
}


@dataclass(frozen=True)
class Images:
    """References of the images to run, as `hack/cluster` printed them."""

    operator: str
    server: str
    gateway: str
    hub: str

    @classmethod
    def load(cls, path: Path) -> Images:
        """Read the references that the image build wrote."""
        known: dict[str, str] = json.loads(path.read_text())
        return cls(**{name: known[name] for name in ("operator", "server", "gateway", "hub")})


def operator_manifests(images: Images, *, extra_profiles: dict[str, Any] | None = None) -> list[Manifest]:
    """Return what `kubectl apply -k deploy` installs, with these images and the demo's hub allowed."""
    rendered = subprocess.run(
        ["kubectl", "kustomize", str(REPOSITORY / "deploy")], capture_output=True, text=True, check=True
    ).stdout
    manifests: list[Manifest] = [manifest for manifest in yaml.safe_load_all(rendered) if manifest]
    config = _configuration(manifests, images, extra_profiles or {})
    config_hash = hashlib.sha256(config.encode()).hexdigest()[:16]
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            manifest["spec"]["template"]["spec"]["containers"][0]["image"] = images.operator
            # The operator reads its configuration once, so a changed one needs a new pod. Kustomize has put the hash of
            # the shipped one into its name; this annotation is the same for ours.
            manifest["spec"]["template"]["metadata"]["annotations"]["llmservice.dev/config-hash"] = config_hash
        if manifest["kind"] == "ConfigMap":
            manifest["data"]["config.yaml"] = config
    return manifests


def _configuration(manifests: list[Manifest], images: Images, extra_profiles: dict[str, Any]) -> str:
    """Return the shipped configuration with our images, the cpu profile as default, and no hub but ours."""
    shipped = next(manifest for manifest in manifests if manifest["kind"] == "ConfigMap")
    config = yaml.safe_load(shipped["data"]["config.yaml"])
    config |= {
        "images": {"server": images.server},
        "defaultProfile": "cpu",
        "defaultEndpoint": HUB_ENDPOINT,
        "allowedEndpoints": [HUB_ENDPOINT],
    }
    config["profiles"] |= extra_profiles
    text: str = yaml.safe_dump(config, sort_keys=False)
    return text


def fake_profile(images: Images) -> dict[str, Any]:
    """Return a profile that serves the fake engine: pods that start in a second, for what is about Kubernetes."""
    return {
        "image": images.gateway,
        "gpu": {"count": 0},
        "requests": {"cpu": "10m", "memory": "64Mi"},
        "limits": {"memory": "256Mi"},
        "cacheSize": "1Gi",
        "env": {"LLMSERVICE_ENGINE": "fake"},
        "warmup": {
            "image": images.server,
            "requests": {"cpu": "10m", "memory": "64Mi"},
            "limits": {"memory": "1Gi"},
        },
    }


def hub_manifests(images: Images) -> list[Manifest]:
    """Return the model hub: one pod with the models in its image, and its Service."""
    labels = {"app.kubernetes.io/name": "hub"}
    metadata = {"name": "hub", "namespace": HUB_NAMESPACE, "labels": labels}
    container = {
        "name": "hub",
        "image": images.hub,
        "args": [f"--gated={GATED_REPO}={GATED_TOKEN}"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [container],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": 1,
        },
    }
    return [
        namespace(HUB_NAMESPACE),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
    ]


def namespace(name: str) -> Manifest:
    """Return a namespace that admits only pods of Pod Security "restricted"."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED_LABELS}}


def _is_established(kubectl: Kubectl) -> bool:
    # Not `kubectl wait`: that fails on a definition so new that its conditions are null.
    found = kubectl.get("crd", "llmservices.llmservice.dev")
    return condition(found, "Established").get("status") == "True"


def install(
    kubectl: Kubectl, images: Images, *, extra_profiles: dict[str, Any] | None = None, timeout_seconds: int = 180
) -> None:
    """Apply operator and hub and wait until both have rolled out. Safe to repeat."""
    manifests = operator_manifests(images, extra_profiles=extra_profiles)
    foundations = [m for m in manifests if m["kind"] in ("Namespace", "CustomResourceDefinition")]
    kubectl.apply(*foundations)
    wait_for(lambda: _is_established(kubectl), seconds=30, what="the CustomResourceDefinition is established")
    kubectl.apply(*manifests)
    kubectl.apply(*hub_manifests(images))
    for namespace_name, deployment in ((OPERATOR_NAMESPACE, "llmservice-operator"), (HUB_NAMESPACE, "hub")):
        kubectl.in_namespace(namespace_name).run(
            "rollout",
            "status",
            f"deployment/{deployment}",
            f"--timeout={timeout_seconds}s",
            timeout_seconds=timeout_seconds + 30,
        )


def uninstall(kubectl: Kubectl, *namespaces: str) -> None:
    """Delete the demo's namespaces, the operator and the resource definition with every LLMService."""
    kubectl.run(
        "delete", "namespace", *namespaces, HUB_NAMESPACE, OPERATOR_NAMESPACE, "--ignore-not-found", timeout_seconds=300
    )
    kubectl.run("delete", "-k", str(REPOSITORY / "deploy"), "--ignore-not-found", timeout_seconds=300)
