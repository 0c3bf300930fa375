"""Fields of a spec that were set once and that this version of the operator does not know.

The API server hides from every reader what the CRD does not have: what was stored under an older CRD is gone the moment
the new one is installed. Only the managed fields still name it, so they are how one learns of it.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from llmservice_operator.schema.rules import Structure
from llmservice_operator.schema.spec import Spec


def unknown_fields(managed: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of the fields in one entry of `metadata.managedFields` that the spec does not have."""
    yield from _unknown(managed.get("fieldsV1", {}).get("f:spec", {}), Spec, "spec")


def _unknown(owned: Mapping[str, Any], structure: type[Structure], path: str) -> Iterator[str]:
    known = _fields(structure)
    for key, inner in sorted(owned.items()):
        name = key.removeprefix("f:")
        if name == key:
            continue  # ".", the object itself
        if name not in known:
            yield f"{path}.{name}"
        elif (child := known[name]) is not None:
            yield from _unknown(inner, child, f"{path}.{name}")


@cache
def _fields(structure: type[Structure]) -> Mapping[str, type[Structure] | None]:
    """Return the fields by their names in the API, with the structure that each holds; asked for at every event."""
    return {field.alias or name: _structure(field.annotation) for name, field in structure.model_fields.items()}


def _structure(annotation: Any) -> type[Structure] | None:
    """Return the structure that a field holds, if it holds one; a list has an owner as a whole."""
    choices = (annotation, *get_args(annotation))
    return next((choice for choice in choices if isinstance(choice, type) and issubclass(choice, Structure)), None)
