"""metrics-server as a process beside the node, for what asks for pods' CPU and memory: autoscalers."""

from pathlib import Path
from typing import Any

from cluster import layout
from cluster.daemon import Daemon
from cluster.network_namespace import NODE_ADDRESS

_PORT = 4443


def daemon(program: Path, kubeconfig: Path) -> Daemon:
    """Return metrics-server."""
    configs = (
        f"{flag}={kubeconfig}" for flag in ("--kubeconfig", "--authentication-kubeconfig", "--authorization-kubeconfig")
    )
    return Daemon(
        "metrics-server",
        (
            str(program),
            *configs,
            f"--bind-address={NODE_ADDRESS}",
            f"--secure-port={_PORT}",
            f"--cert-dir={layout.STATE / 'metrics-server'}",
            "--kubelet-insecure-tls",
            "--kubelet-preferred-address-types=InternalIP",
            # The shortest it accepts.
            "--metric-resolution=15s",
        ),
    )


def manifests() -> list[dict[str, Any]]:
    """Return the Service, its endpoint outside the pods, and the API that they serve."""
    metadata = {"name": "metrics-server", "namespace": "kube-system"}
    labels = {"kubernetes.io/service-name": "metrics-server"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": _PORT}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": labels},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": _PORT}],
            "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "insecureSkipTLSVerify": True,
                "service": {"name": "metrics-server", "namespace": "kube-system"},
            },
        },
    ]
