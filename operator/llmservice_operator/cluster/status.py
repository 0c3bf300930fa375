"""Writes an LLMService's status: the whole of it, under its own field manager, and only when it differs."""

from typing import Any

from llmservice_operator import metrics, names
from llmservice_operator.cluster import errors
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.confirmation import Confirmation
from llmservice_operator.cluster.interface import OutdatedError
from llmservice_operator.cluster.resources import LLMSERVICES
from llmservice_operator.cluster.store import Entry, Store
from llmservice_operator.manifest import Manifest


async def apply_status(
    client: Client, store: Store, confirmation: Confirmation, owner: Manifest, status: Manifest
) -> bool:
    """See `interface.Cluster.apply_status`."""
    if is_same_status(status, owner.get("status", {})):
        return False
    await confirmation.confirm(owner)
    meta = owner["metadata"]
    body = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
        "status": status,
    }
    try:
        answer = await client.apply(LLMSERVICES, body, names.STATUS_FIELD_MANAGER, "status")
    except errors.NotFoundError:
        return False  # Deleted in the meantime: nobody is left to tell.
    except errors.ConflictError as error:
        raise OutdatedError(error.message, retry_after_seconds=0.1) from error
    metrics.STATUS_WRITES.inc()
    store.put(LLMSERVICES, Entry.of(answer))
    return True


def is_same_status(status: Manifest, live: Manifest) -> bool:
    """Return whether both say the same: absent and empty are one, and conditions are a map by their type."""
    return bool(_canonical(status) == _canonical(live))


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        fields = {field: _canonical(item) for field, item in value.items()}
        return {field: item for field, item in fields.items() if item is not None and item != {} and item != []}
    if isinstance(value, list):
        items = [_canonical(item) for item in value]
        is_conditions = all(isinstance(item, dict) and "type" in item for item in items)
        return sorted(items, key=lambda item: str(item["type"])) if is_conditions else items
    return value
