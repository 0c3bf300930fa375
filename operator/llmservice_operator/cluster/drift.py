"""Who changed a child of ours, and where: asked once, when it is about to be put back."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from llmservice_operator import names
from llmservice_operator.children import Drift
from llmservice_operator.cluster.subset import is_subset
from llmservice_operator.manifest import Manifest

Step = str | Mapping[str, Any]
"""A field by its name, or an item of a list by itself."""
_OURS: Final = (names.FIELD_MANAGER, names.REPLICAS_FIELD_MANAGER)
_CONTROLLERS: Final = ("kube-controller-manager",)
"""They keep books on our children all the time: they are named only for a field that they own."""


def drift(manifest: Manifest, live: Manifest) -> Drift | None:
    """Return how `live` differs from `manifest`, the body that stood there; None if only the ownership does."""
    path = next(_differences(manifest, live, ()), None)
    if path is None:
        return None
    meta = manifest["metadata"]
    return Drift(manifest["kind"], meta["name"], _in_words(path), _manager(live, path))


def _differences(wanted: Any, live: Any, path: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    """Yield where the body is not in the live object any more."""
    # Whole bodies are compared where the rules for quantities and empty values are: in `subset`.
    if not isinstance(wanted, dict) or not isinstance(live, dict):
        yield path
        return
    for field, value in wanted.items():
        if is_subset({field: value}, live):
            continue
        there = live.get(field)
        if isinstance(value, list) and isinstance(there, list) and _are_named([*value, *there]):
            by_name = {item["name"]: item for item in there}
            for item in value:
                if not is_subset(item, by_name.get(item["name"])):
                    yield from _differences(item, by_name.get(item["name"]), (*path, field, item))
        else:
            yield from _differences(value, there, (*path, field))


def _are_named(items: list[Any]) -> bool:
    return all(isinstance(item, dict) and "name" in item for item in items)


def _in_words(path: tuple[Step, ...]) -> str:
    return "".join(_word(step if isinstance(step, str) else f"[{step['name']}]") for step in path).removeprefix(".")


def _word(step: str) -> str:
    is_plain = not any(character in step for character in "[./")
    return f".{step}" if is_plain else step if step.startswith("[") else f"[{step}]"


def _manager(live: Manifest, path: tuple[Step, ...]) -> str:
    """Return who owns the field now; where it was taken away and nobody does, who wrote last."""
    entries = [
        entry
        for entry in live["metadata"].get("managedFields", ())
        if entry.get("manager") not in _OURS and entry.get("subresource") != "status"
    ]
    latest = sorted(entries, key=lambda entry: str(entry.get("time", "")), reverse=True)
    owners = [entry for entry in latest if _owns(entry.get("fieldsV1", {}), path)]
    others = [entry for entry in latest if entry.get("manager") not in _CONTROLLERS]
    return next((str(entry["manager"]) for entry in (*owners, *others) if "manager" in entry), "somebody")


def _owns(fields: Any, path: tuple[Step, ...]) -> bool:
    """Whether a set of fields, in the form of managedFields, has the one at `path`."""
    for step in path:
        inner = fields.get(f"f:{step}") if isinstance(step, str) else _item(fields, step)
        if not isinstance(inner, dict):
            return False
        fields = inner
    return True


def _item(fields: Mapping[str, Any], item: Mapping[str, Any]) -> Any:
    keys = {key: json.loads(key[2:]) for key in fields if key.startswith("k:")}
    return next((fields[key] for key, value in keys.items() if value.items() <= item.items()), None)
