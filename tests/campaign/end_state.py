"""What a spec comes to in the end: the children and the status, without what depends on the way there.

Each thing that is left out has its reason at the place where it is left out; all else is to be the same whatever was
there before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.campaign import state
from tests.campaign.run import NAME
from tests.support.api import Api

Manifest = dict[str, Any]
_HISTORY: Final = ("ControllerRevision", "Job")
"""Revisions that are kept to go back to, and the warm-ups of models that were not there yet."""
_DRAWN: Final = ("nodePort", "healthCheckNodePort")
"""Ports that the API server draws for a Service."""
_COUNTS: Final = ("replicas", "readyReplicas", "updatedReplicas")
WITHIN_BOUNDS: Final = "within the autoscaler's bounds"


async def end_state(api: Api) -> str:
    """Return what there is, as text to compare."""
    service = await api.get("LLMService", NAME)
    children = {kind: await api.all(kind) for kind in state.COMPARED if kind not in _HISTORY}
    return state.as_text(compared(service, children), api.namespace)


def compared(service: Manifest, children: Mapping[str, list[Manifest]]) -> list[Manifest]:
    """Return what is compared of an LLMService and its children, which are given by kind."""
    kept = {kind: items for kind, items in children.items() if kind not in _HISTORY}
    template = _template(kept["Deployment"])
    kept["ConfigMap"] = _named_by(template, kept["ConfigMap"])
    kept["PersistentVolumeClaim"] = list(_claims(service, template, kept["PersistentVolumeClaim"]))
    kept["Service"] = [_without(item, _DRAWN) for item in kept["Service"]]
    found = [state.essence(kind, item) for kind, items in kept.items() for item in items]
    whole = [_status(service), {"kind": "spec", "spec": service["spec"]}, *found]
    bounds = _bounds(service)
    return whole if bounds is None else [_scaled(item, bounds) for item in whole]


def _template(deployments: list[Manifest]) -> Manifest:
    template: Manifest = deployments[0]["spec"]["template"]["spec"] if deployments else {}
    return template


def _named_by(template: Manifest, config_maps: list[Manifest]) -> list[Manifest]:
    """Return the configuration of the pods; the others are of revisions that are kept to go back to."""
    sources = [source for container in template.get("containers", ()) for source in container.get("envFrom", ())]
    names = {source["configMapRef"]["name"] for source in sources}
    return [item for item in config_maps if item["metadata"]["name"] in names]


def _claims(service: Manifest, template: Manifest, claims: list[Manifest]) -> Iterator[Manifest]:
    """Yield the claims that are to be there, without their size, which never shrinks, and without what is known of
    models that were cached before.

    What the pods do not use is to go only where the spec has a volume of its own and asks to delete: a download is not
    thrown away because its volume is not used for a while.
    """
    spec = service["spec"]
    names = {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in template.get("volumes", ())}
    is_own = "huggingFace" in spec["model"]["source"] and "claimName" not in spec["cache"]
    for claim in claims:
        if claim["metadata"]["name"] in names or (is_own and spec["cache"]["reclaimPolicy"] == "Delete"):
            # It gets its volume sooner or later.
            yield _without(claim, ("resources", "volumeName", "llmservice.dev/cached", "llmservice.dev/leftovers"))


def _status(service: Manifest) -> Manifest:
    found = state.status(service)
    # How often the spec was changed, what failed once, and which revisions there were.
    found["status"] = {k: v for k, v in found["status"].items() if k not in ("observedGeneration", "lastFailure")}
    rollout = found["status"].get("rollout", {})
    found["status"]["rollout"] = {
        key: value for key, value in rollout.items() if key not in ("history", "lastGoodRevision")
    }
    return found


def _bounds(service: Manifest) -> range | None:
    """Return how many replicas an autoscaler may have set; None without one."""
    scaling = service["spec"].get("scaling")
    if scaling is None or service["spec"]["suspend"]:
        return None
    return range(scaling["minReplicas"], scaling["maxReplicas"] + 1)


def _scaled(item: Manifest, bounds: range) -> Manifest:
    """Return a Deployment or a status without the number of replicas, which within its bounds is the autoscaler's."""
    part = {"Deployment": "spec", "status": "status"}.get(item["kind"])
    if part is None or item[part].get("replicas") not in bounds:
        return item
    replicas = item[part]["replicas"]
    counts: Manifest = {name: WITHIN_BOUNDS for name in _COUNTS if item[part].get(name) == replicas}
    if item[part].get("readySummary") == f"{replicas}/{replicas}":
        counts["readySummary"] = WITHIN_BOUNDS
    if (gpus := item[part].get("resources", {}).get("gpus")) is not None and gpus % replicas == 0:
        counts["resources"] = {"gpus for each": gpus // replicas}
    return {**item, part: {**item[part], **counts}}


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner, names) for key, inner in value.items() if key not in names}
    return [_without(inner, names) for inner in value] if isinstance(value, list) else value
