"""Late, lost and doubled messages leave the store as the cluster is."""

from typing import Any

from llmservice_operator.cluster.resources import DEPLOYMENTS, LLMSERVICES, SERVICES, Key, Resource
from llmservice_operator.cluster.store import Entry, Store

LLAMA = Key("default", "llama")


class Heard:
    """A listener that keeps what it was told: key, kind, version before, version now."""

    def __init__(self) -> None:
        self.told: list[tuple[Key, str, int | None, int | None]] = []

    def __call__(self, key: Key, resource: Resource, before: Entry | None, after: Entry | None) -> None:
        versions = [None if entry is None else entry.resource_version for entry in (before, after)]
        self.told.append((key, resource.kind, versions[0], versions[1]))


def entry(version: int, uid: str = "u1", name: str = "llama", **more: Any) -> Entry:
    labels = {"app.kubernetes.io/instance": "llama"}
    meta = {"namespace": "default", "name": name, "uid": uid, "resourceVersion": str(version), "labels": labels}
    return Entry.of({"metadata": {**meta, **more.pop("metadata", {})}, **more})


def test_an_older_version_is_ignored() -> None:
    store = Store(Heard())
    assert store.put(DEPLOYMENTS, entry(5, spec={"replicas": 2}))
    assert not store.put(DEPLOYMENTS, entry(4, spec={"replicas": 1}))
    found = store.get(DEPLOYMENTS, "default", "llama")
    assert found is not None
    assert found.manifest["spec"] == {"replicas": 2}


def test_a_late_version_of_a_deleted_object_does_not_bring_it_back() -> None:
    store = Store(Heard())
    store.put(DEPLOYMENTS, entry(5))
    store.remove(DEPLOYMENTS, entry(7).manifest)
    assert not store.put(DEPLOYMENTS, entry(6))
    assert store.get(DEPLOYMENTS, "default", "llama") is None


def test_an_object_that_only_left_the_watch_can_be_put_back_as_it_is_now() -> None:
    store = Store(Heard())
    store.put(DEPLOYMENTS, entry(5))
    store.remove(DEPLOYMENTS, entry(7).manifest)
    assert store.put(DEPLOYMENTS, entry(7))


def test_the_deletion_of_an_earlier_object_of_that_name_is_ignored() -> None:
    store = Store(Heard())
    store.put(DEPLOYMENTS, entry(9, uid="new"))
    store.remove(DEPLOYMENTS, entry(8, uid="old").manifest)
    assert store.get(DEPLOYMENTS, "default", "llama") is not None


def test_a_deletion_that_is_told_twice_leaves_what_came_back_since() -> None:
    store = Store(Heard())
    store.put(DEPLOYMENTS, entry(5))
    assert store.remove(DEPLOYMENTS, entry(7).manifest)
    store.put(DEPLOYMENTS, entry(8))
    assert not store.remove(DEPLOYMENTS, entry(7).manifest)
    assert store.get(DEPLOYMENTS, "default", "llama") is not None


def test_a_list_removes_what_it_lacks_and_tells_of_it() -> None:
    heard = Heard()
    store = Store(heard)
    store.put(SERVICES, entry(5, uid="a", name="a"))
    store.put(SERVICES, entry(6, uid="b", name="b"))
    heard.told.clear()
    store.replace(SERVICES, None, [entry(6, uid="b", name="b")], resource_version=10)
    assert heard.told == [(LLAMA, "Service", 5, None)]


def test_a_list_keeps_what_is_newer_than_itself() -> None:
    store = Store(Heard())
    store.put(SERVICES, entry(12))
    store.replace(SERVICES, None, [], resource_version=10)
    assert store.get(SERVICES, "default", "llama") is not None


def test_a_list_of_one_namespace_leaves_others_alone() -> None:
    store = Store(Heard())
    store.put(SERVICES, entry(5, metadata={"namespace": "other"}))
    store.replace(SERVICES, "default", [], resource_version=10)
    assert store.get(SERVICES, "other", "llama") is not None


def test_a_change_of_version_or_managed_fields_alone_is_no_news() -> None:
    heard = Heard()
    store = Store(heard)
    store.put(SERVICES, entry(5))
    theirs = {"manager": "them", "operation": "Apply", "fieldsV1": {"f:x": {}}}
    store.put(SERVICES, entry(6, metadata={"managedFields": [theirs]}))
    assert heard.told == [(LLAMA, "Service", None, 5)]


def test_a_child_is_found_by_its_label_or_by_its_owner() -> None:
    store = Store(Heard())
    owner = {"kind": "LLMService", "name": "llama", "uid": "o", "controller": True}
    store.put(SERVICES, entry(5, uid="a", name="a"))
    store.put(SERVICES, entry(6, uid="b", name="b", metadata={"labels": {}, "ownerReferences": [owner]}))
    assert [child.uid for child in store.children(LLAMA, SERVICES)] == ["a", "b"]


def test_an_llmservice_belongs_to_itself() -> None:
    heard = Heard()
    Store(heard).put(LLMSERVICES, entry(5, metadata={"labels": {}}))
    assert heard.told == [(LLAMA, "LLMService", None, 5)]


def test_managed_fields_are_kept_only_where_they_name_a_field_that_an_llmservice_has_not() -> None:
    plain = {"manager": "a", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    odd = {"manager": "b", "fieldsV1": {"f:spec": {"f:tier": {}}}}
    meta = {"managedFields": [plain, odd]}
    assert entry(5, kind="LLMService", metadata=meta).manifest["metadata"]["managedFields"] == [odd]
    assert "managedFields" not in entry(5, kind="Deployment", metadata=meta).manifest["metadata"]
    assert "managedFields" not in entry(5, kind="LLMService", metadata={"managedFields": [plain]}).manifest["metadata"]
