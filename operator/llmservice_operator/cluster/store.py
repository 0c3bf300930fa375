"""What the watches have seen, by name and by LLMService: all that a reconcile reads."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from llmservice_operator import names
from llmservice_operator.cluster import digest
from llmservice_operator.cluster.resources import LLMSERVICES, Key, Resource
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema.unknown_fields import unknown_fields

_TOMBSTONES: Final = 16384
"""More than a thousand LLMServices leave behind: what is told twice of a deleted object must not bring it back."""


@dataclass(frozen=True)
class Entry:
    """One object without its managedFields, and what they said about us."""

    manifest: Manifest
    digest: str | None
    """Fingerprint of the fields we applied and still own; None where we own none."""
    owns_replicas: bool = False
    """Whether `spec.replicas` is among them: leaving it out of the next apply would then reset it to 1."""

    @classmethod
    def of(cls, manifest: Manifest) -> "Entry":
        """Digest our part of the managedFields, then drop them: they are two thirds of an object's memory. Of an
        LLMService those stay that name a field it does not have.
        """
        own = digest.owned_fields(manifest, names.FIELD_MANAGER)
        meta = {field: value for field, value in manifest["metadata"].items() if field != "managedFields"}
        if odd := _with_unknown_fields(manifest):
            meta["managedFields"] = odd
        owns_replicas = own is not None and "f:replicas" in own.get("f:spec", {})
        return cls({**manifest, "metadata": meta}, None if own is None else digest.of(own), owns_replicas)

    @property
    def uid(self) -> str:
        return str(self.manifest["metadata"]["uid"])

    @property
    def resource_version(self) -> int:
        """Resource versions of one kind are ordered numbers, by promise since Kubernetes 1.35, by practice before."""
        return int(self.manifest["metadata"]["resourceVersion"])

    def is_same_object(self, other: "Entry") -> bool:
        """Whether nothing differs but the version: a heartbeat, or a change in somebody else's managed fields."""
        return self.digest == other.digest and _without_version(self.manifest) == _without_version(other.manifest)


def _with_unknown_fields(manifest: Manifest) -> list[Manifest]:
    if manifest.get("kind") != names.KIND:
        return []
    return [entry for entry in manifest["metadata"].get("managedFields", ()) if any(unknown_fields(entry))]


def _without_version(manifest: Manifest) -> Manifest:
    meta = {field: value for field, value in manifest["metadata"].items() if field != "resourceVersion"}
    return {**manifest, "metadata": meta}


def keys_of(resource: Resource, manifest: Manifest) -> set[Key]:
    """Return the LLMServices an object may belong to: by its instance label and by its controller.

    Both, because either can be edited away, and the object must stay in sight until it is put right.
    """
    meta = manifest["metadata"]
    if resource == LLMSERVICES:
        return {Key(meta["namespace"], meta["name"])}
    owners = {meta.get("labels", {}).get(names.INSTANCE_LABEL)}
    owners |= {ref["name"] for ref in meta.get("ownerReferences", ()) if ref["kind"] == names.KIND}
    return {Key(meta["namespace"], owner) for owner in owners if owner is not None}


Listener = Callable[[Key, Resource, Entry | None, Entry | None], None]
"""Called with the key, the kind, the entry before and the entry now; None where there was or is none."""


class Store:
    """Objects of all watched kinds. Never blocks; every change is told to the listener at once."""

    def __init__(self, listener: Listener):
        self._listener = listener
        self._entries: dict[Resource, dict[Key, Entry]] = defaultdict(dict)
        self._children: dict[Key, dict[Resource, dict[Key, Entry]]] = defaultdict(lambda: defaultdict(dict))
        self._tombstones: OrderedDict[str, int] = OrderedDict()

    def get(self, resource: Resource, namespace: str, name: str) -> Entry | None:
        """Return one object, or None."""
        return self._entries[resource].get(Key(namespace, name))

    def all(self, resource: Resource, namespace: str | None = None) -> Iterator[Entry]:
        """Yield the objects of a kind, of one namespace or of all."""
        for key, entry in list(self._entries[resource].items()):
            if namespace is None or key.namespace == namespace:
                yield entry

    def children(self, key: Key, resource: Resource) -> list[Entry]:
        """Return the objects of one kind whose labels name the LLMService, ordered by name."""
        by_kind = self._children.get(key)
        found = by_kind.get(resource, {}) if by_kind is not None else {}
        return [found[name] for name in sorted(found)]

    def put(self, resource: Resource, entry: Entry) -> bool:
        """Keep an object as it came from a watch, a list or an answer; return whether it was news.

        A version that was seen is ignored.
        """
        if self.has_seen(resource, entry.manifest):
            return False
        meta = entry.manifest["metadata"]
        name = Key(meta["namespace"], meta["name"])
        before = self._entries[resource].get(name)
        self._unlink(resource, name, before)
        self._entries[resource][name] = entry
        if resource != LLMSERVICES:
            for key in keys_of(resource, entry.manifest):
                self._children[key][resource][name] = entry
        if before is None or not before.is_same_object(entry):
            self._tell(resource, before, entry)
        return True

    def has_seen(self, resource: Resource, manifest: Manifest) -> bool:
        """Return whether a message is late: a newer version is kept, or this one, or the object was deleted since."""
        meta = manifest["metadata"]
        version = int(meta["resourceVersion"])
        if version < self._tombstones.get(meta["uid"], 0):
            return True
        kept = self._entries[resource].get(Key(meta["namespace"], meta["name"]))
        return kept is not None and version <= kept.resource_version

    def remove(self, resource: Resource, manifest: Manifest) -> bool:
        """Forget an object that was deleted, or that left the watch because its labels were changed; return whether it
        was news.
        """
        meta = manifest["metadata"]
        name, version = Key(meta["namespace"], meta["name"]), int(meta["resourceVersion"])
        self._bury(meta["uid"], version)
        before = self._entries[resource].get(name)
        if before is None or before.uid != meta["uid"] or before.resource_version > version:
            return False
        self._unlink(resource, name, before)
        del self._entries[resource][name]
        self._tell(resource, before, None)
        return True

    def replace(self, resource: Resource, namespace: str | None, listed: list[Entry], resource_version: int) -> None:
        """Take a complete list, read at `resource_version`: put what it has, remove what it lacks.

        What is newer than the list stays: an apply of ours answered while the list was on its way.
        """
        self._replace(resource, list(self.all(resource, namespace)), listed, resource_version)

    def replace_children(self, key: Key, resource: Resource, listed: list[Entry], resource_version: int) -> bool:
        """Take a complete list of the children of one LLMService, like `replace`; return whether any of it was news."""
        return self._replace(resource, self.children(key, resource), listed, resource_version)

    def _replace(self, resource: Resource, known: list[Entry], listed: list[Entry], resource_version: int) -> bool:
        uids = {entry.uid for entry in listed}
        gone = [entry for entry in known if entry.uid not in uids and entry.resource_version <= resource_version]
        for entry in gone:
            self.remove(resource, entry.manifest)
        news = [self.put(resource, entry) for entry in listed]
        return bool(gone) or any(news)

    def _unlink(self, resource: Resource, name: Key, entry: Entry | None) -> None:
        for key in keys_of(resource, entry.manifest) if entry is not None else ():
            if key in self._children:
                self._children[key][resource].pop(name, None)
                if not any(self._children[key].values()):
                    del self._children[key]

    def _bury(self, uid: str, resource_version: int) -> None:
        self._tombstones[uid] = max(resource_version, self._tombstones.get(uid, 0))
        if len(self._tombstones) > _TOMBSTONES:
            self._tombstones.popitem(last=False)

    def _tell(self, resource: Resource, before: Entry | None, after: Entry | None) -> None:
        keys = set[Key]().union(*(keys_of(resource, entry.manifest) for entry in (before, after) if entry is not None))
        for key in keys:
            self._listener(key, resource, before, after)
