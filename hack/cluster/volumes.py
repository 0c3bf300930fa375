"""Static local volumes for claims, and the loop that empties a released one for the next claim.

Local volumes honour fsGroup, so pods that are not root can write to them; the controller manager's own hostPath
provisioner makes folders that only root may use.
"""

import contextlib
import json
import shutil
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cluster import layout

COUNT = 64
STORAGE_CLASS = "local"
POLL_SECONDS = 3.0


def directory() -> Path:
    """Return the folder that holds one folder for each volume."""
    return layout.STATE / "volumes"


def names() -> list[str]:
    """Return the volumes' names."""
    return [f"local-{number:02d}" for number in range(COUNT)]


def manifests() -> list[dict[str, Any]]:
    """Return the default StorageClass and the volumes."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    return [storage_class, *(_volume(name) for name in names())]


def _volume(name: str) -> dict[str, Any]:
    on_this_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [layout.NODE_NAME]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            # Nothing enforces a size; this one suits every claim.
            "capacity": {"storage": "1Ti"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": str(directory() / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_this_node]}]}},
        },
    }


def make_directories() -> None:
    """Make the folder of each volume."""
    for name in names():
        (directory() / name).mkdir(parents=True, exist_ok=True)


def wipe(name: str) -> None:
    """Give the volume `name` a new, empty folder."""
    folder = directory() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)


def released(listed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return those of a list of PersistentVolumes that are ours and whose claim is gone."""
    ours = set(names())
    return [
        volume
        for volume in listed["items"]
        if volume["metadata"]["name"] in ours and volume.get("status", {}).get("phase") == "Released"
    ]


def recycle_for_ever(server: str, authority: Path, certificate: Path, key: Path) -> None:
    """Empty released volumes and make them available again, until killed."""
    context = ssl.create_default_context(cafile=str(authority))
    context.load_cert_chain(certificate, key)
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    path = f"{server}/api/v1/persistentvolumes"
    while True:
        # An API server that is away is not for this loop to report: it tries again.
        with contextlib.suppress(urllib.error.URLError, OSError, ValueError):
            with opener.open(path, timeout=10) as answer:
                listed = json.load(answer)
            for volume in released(listed):
                wipe(volume["metadata"]["name"])
                opener.open(_unbound(path, volume), timeout=10).close()
        time.sleep(POLL_SECONDS)


def _unbound(path: str, volume: dict[str, Any]) -> urllib.request.Request:
    # With the version that was read, so that a claim bound since is never taken off.
    patch = {"metadata": {"resourceVersion": volume["metadata"]["resourceVersion"]}, "spec": {"claimRef": None}}
    return urllib.request.Request(
        f"{path}/{volume['metadata']['name']}",
        data=json.dumps(patch).encode(),
        headers={"Content-Type": "application/merge-patch+json"},
        method="PATCH",
    )
