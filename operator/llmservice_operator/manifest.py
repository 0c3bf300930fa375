"""Questions to a raw Kubernetes object, asked by the decisions and by the shell alike.

Manifests are dictionaries as the API server gives them, because each decision looks at a handful of fields of each.
"""

from collections.abc import Iterable
from typing import Any

Manifest = dict[str, Any]
"""A Kubernetes object as JSON."""


def named(manifests: Iterable[Manifest], name: str) -> Manifest | None:
    """Return the object called `name`."""
    return next((item for item in manifests if item["metadata"]["name"] == name), None)


def is_being_deleted(manifest: Manifest) -> bool:
    """Whether an object is only there until something lets go of it."""
    return "deletionTimestamp" in manifest["metadata"]


def condition(manifest: Manifest, kind: str) -> Manifest:
    """Return the condition of type `kind` in an object's status; empty when there is none."""
    conditions: list[Manifest] = manifest.get("status", {}).get("conditions") or []
    return next((item for item in conditions if item["type"] == kind), {})


def is_true(manifest: Manifest, kind: str) -> bool:
    """Whether the condition of type `kind` has status True."""
    return bool(condition(manifest, kind).get("status") == "True")


def has_finished(job: Manifest) -> bool:
    """Whether a Job has come to its end, good or bad."""
    return is_true(job, "Complete") or is_true(job, "Failed")


def happened_at(event: Manifest) -> str:
    """Return when an Event was last seen, as RFC 3339 text; empty when it does not say."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
