"""Every leaf field of the spec, and how it is changed in a whole spec.

A path is written as in the CRD, with `[]` for the first entry of a list of structures. A field is changed to its
VALUES, to its default in the CRD, and it is left out (with the block around it, where the block cannot do without).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import ValidationError

from llmservice_operator import crd
from llmservice_operator.schema import Spec
from tests.campaign.field_values import ABSENT, BLOCKS, VALUES, WITHOUT_VALUES, Set

Manifest = dict[str, Any]
SIX_LINES: Final[Manifest] = {"model": {"source": {"huggingFace": {"repo": "acme/tiny"}}}}


@dataclass(frozen=True)
class Edit:
    """One change of one leaf field."""

    path: str
    change: Set

    def __str__(self) -> str:
        return f"{self.path}={'(none)' if self.change.value is ABSENT else self.change.value}"

    def of(self, spec: Manifest) -> Manifest | None:
        """Return `spec` after the change, or None where that asks for nothing else or the rules refuse it."""
        changed = copy.deepcopy(spec)
        for path, value in self.change.needs.items():
            if _get(changed, path) is ABSENT:
                _set(changed, path, value)
        for path, value in {self.path: self.change.value, **self.change.together}.items():
            _set(changed, path, value)
        return changed if parsed(changed) not in (None, parsed(spec)) else None


@cache
def leaves() -> Mapping[str, Manifest]:
    """Return the schema of every leaf field of the spec, by path."""
    return dict(_leaves("", _schema()))


@cache
def edits() -> tuple[Edit, ...]:
    """Return every change of every leaf field."""
    return tuple(Edit(path, change) for path in leaves() for change in _changes(path))


def parsed(spec: Manifest) -> Spec | None:
    """Return a spec with the defaults in place, or None where the rules refuse it."""
    try:
        return Spec.model_validate(spec)
    except ValidationError:
        return None


def _changes(path: str) -> Iterator[Set]:
    if path in WITHOUT_VALUES:
        return
    for value in VALUES[path]:
        yield value if isinstance(value, Set) else Set(value)
    schema = leaves()[path]
    if "default" in schema and path not in ("suspend", "paused"):
        yield Set(schema["default"])
    optional = _what_may_be_left_out(path)
    if optional == path:
        yield Set(ABSENT)
    elif optional is not None:
        yield Set(ABSENT, together={optional: ABSENT})


@cache
def _schema() -> Manifest:
    version = crd.manifest()["spec"]["versions"][0]
    schema: Manifest = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def _leaves(path: str, schema: Manifest) -> Iterator[tuple[str, Manifest]]:
    if "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from _leaves(f"{path}.{name}".lstrip("."), inner)
    elif "properties" in schema.get("items", {}):
        yield from _leaves(f"{path}[]", schema["items"])
    else:
        yield path, schema


def _what_may_be_left_out(path: str) -> str | None:
    """Return the innermost of the field and the blocks around it that its own block does not require."""
    schema, found = _schema(), None
    walked: list[str] = []
    for part in path.split("."):
        name = part.removesuffix("[]")
        walked.append(part)
        if name not in schema.get("required", ()):
            found = ".".join(walked)
        schema = schema["properties"][name]
        schema = schema["items"] if part.endswith("[]") else schema
    return found.removesuffix("[]") if found else None


def _get(spec: Manifest, path: str) -> Any:
    here: Any = spec
    for part in path.split("."):
        here = here.get(part.removesuffix("[]"), ABSENT)
        if here is ABSENT:
            return ABSENT
        here = here[0] if part.endswith("[]") else here
    return here


def _set(spec: Manifest, path: str, value: Any) -> None:
    """Put `value` at `path`, or take away what is there; missing blocks around it are made as BLOCKS has them."""
    if value is ABSENT and _get(spec, path) is ABSENT:
        return
    here: Any = spec
    walked: list[str] = []
    *blocks, last = path.split(".")
    for part in blocks:
        walked.append(part)
        here = _entered(here, part, ".".join(walked))
    if value is ABSENT:
        del here[last]
    else:
        here[last] = copy.deepcopy(value)


def _entered(here: Manifest, part: str, path: str) -> Any:
    name = part.removesuffix("[]")
    if name not in here:
        block, others = BLOCKS.get(path, ({}, ()))
        for other in others:
            here.pop(other, None)
        here |= copy.deepcopy(block) if others else {name: copy.deepcopy([block] if part.endswith("[]") else block)}
    return here[name][0] if part.endswith("[]") else here[name]
