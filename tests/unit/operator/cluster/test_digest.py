"""The fingerprint by which a foreign edit is noticed."""

from typing import Any

from llmservice_operator.cluster.digest import owned_fields


def manifest(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries)}}


OURS: dict[str, Any] = {"manager": "us", "operation": "Apply", "time": "t1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}


def test_only_our_apply_entry_counts() -> None:
    theirs = {**OURS, "manager": "kubectl", "fieldsV1": {"f:spec": {"f:paused": {}}}}
    by_update = {**OURS, "operation": "Update", "fieldsV1": {"f:data": {}}}
    of_status = {**OURS, "subresource": "status", "fieldsV1": {"f:status": {}}}
    assert owned_fields(manifest(theirs, by_update, of_status, OURS), "us") == {"f:spec": {"f:replicas": {}}}


def test_time_does_not_count() -> None:
    assert owned_fields(manifest(OURS), "us") == owned_fields(manifest({**OURS, "time": "t2"}), "us")


def test_an_object_we_never_applied_has_none() -> None:
    assert owned_fields({"metadata": {}}, "us") is None
    assert owned_fields(manifest({**OURS, "manager": "kubectl"}), "us") is None
