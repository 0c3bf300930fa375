"""A control plane with what `kubectl apply -k deploy` installs, nodes that kwok plays, volumes that wait for claims."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from cluster import binaries, processes
from cluster.controlplane import ControlPlane
from cluster.trouble import Trouble

Manifest = dict[str, Any]

DEPLOY = Path(__file__).parents[2] / "deploy"
STAGES = Path(__file__).parent / "stages.yaml"
OPERATOR_NAMESPACE = "llmservice-system"
OPERATOR = f"system:serviceaccount:{OPERATOR_NAMESPACE}:llmservice-operator"
NODES = 20
ROOM = {"cpu": "512", "memory": "4Ti", "pods": "250", "nvidia.com/gpu": "128"}
"""Of each node: enough for every replica, its successor in a rollout and its warm-up under the shipped profile."""
GPU_TAINT = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}


@contextmanager
def played_cluster(folder: Path, namespaces: list[str], services: int) -> Iterator[ControlPlane]:
    """Run the cluster below `folder` while the body does, with room for `services` LLMServices in `namespaces`.

    The operator itself is not started; `folder/config.yaml` is the configuration that it ships with.
    """
    with ControlPlane(folder) as plane:
        _install(plane, folder / "config.yaml")
        _apply(plane, [_namespace(name) for name in namespaces])
        _apply(plane, [_volume(number) for number in range(services)])
        _apply(plane, [_node(number) for number in range(NODES)])
        kwok = binaries.ensure(["kwok"])["kwok"]
        playing = processes.start(
            [kwok, "--kubeconfig", plane.kubeconfig, "--config", STAGES], plane.log("kwok"), outlives_caller=False
        )
        try:
            _wait_for_nodes(plane)
            yield plane
        finally:
            playing.end()


def _wait_for_nodes(plane: ControlPlane) -> None:
    try:
        plane.kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=60s")
    except Trouble as trouble:
        raise Trouble(f"kwok does not play the nodes:\n{processes.tail(plane.log('kwok'))}") from trouble


def _install(plane: ControlPlane, config: Path) -> None:
    """Apply what deploy/ holds except the Deployment, which is run as a process, and keep its configuration."""
    manifests = list(yaml.safe_load_all(plane.kubectl("kustomize", str(DEPLOY))))
    (configured,) = [manifest for manifest in manifests if manifest["kind"] == "ConfigMap"]
    config.write_text(configured["data"]["config.yaml"])
    _apply(plane, [manifest for manifest in manifests if manifest["kind"] != "Deployment"])
    plane.wait_established("llmservices.llmservice.dev")


def _apply(plane: ControlPlane, manifests: list[Manifest]) -> None:
    plane.kubectl(
        *("apply", "--server-side", "--filename", "-"),
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}),
    )


def _namespace(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _volume(number: int) -> Manifest:
    spec = {
        "capacity": {"storage": "50Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": f"/volumes/{number:04}"},
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"volume-{number:04}"},
        "spec": spec,
    }


def _node(number: int) -> Manifest:
    name = f"played-{number:02}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"taints": [GPU_TAINT]},
        "status": {"capacity": ROOM, "allocatable": ROOM},
    }
