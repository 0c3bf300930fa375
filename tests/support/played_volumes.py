"""Plays the provisioner for a whole namespace: every claim gets a volume at once, so that it may grow."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.api import Api, MissingError

Manifest = dict[str, Any]
LOOK_SECONDS = 0.2
PROVISIONED = "campaign-"
"""How the names of the classes begin that volumes are made of."""


@asynccontextmanager
async def played_volumes(api: Api) -> AsyncIterator[None]:
    """Play the provisioner while the body runs."""
    task = asyncio.create_task(_provision(api))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _provision(api: Api) -> None:
    made: set[str] = set()
    try:
        while True:
            with contextlib.suppress(MissingError, httpx.HTTPError):
                claims = {f"pvc-{claim['metadata']['uid']}": claim for claim in await api.all("PersistentVolumeClaim")}
                for name in made - claims.keys():
                    made.discard(name)
                    await api.delete("PersistentVolume", name)
                for name in claims.keys() - made:
                    if claims[name]["spec"].get("storageClassName", "").startswith(PROVISIONED):
                        await api.create(_volume(name, claims[name]))
                        made.add(name)
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        for name in made:
            with contextlib.suppress(MissingError, httpx.HTTPError):
                await api.delete("PersistentVolume", name)


def _volume(name: str, claim: Manifest) -> Manifest:
    metadata, spec = claim["metadata"], claim["spec"]
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": metadata["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Ti"},
            "accessModes": spec["accessModes"],
            "storageClassName": spec["storageClassName"],
            "claimRef": {**reference, "namespace": metadata["namespace"], "name": metadata["name"]},
            "hostPath": {"path": f"/volumes/{name}"},
        },
    }
