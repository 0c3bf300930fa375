"""Reads escalations.yaml: what somebody tries who may only write LLMServices, and what answers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

Manifest = dict[str, Any]

_PLAIN: Manifest = {"model": {"source": {"huggingFace": {"repo": "acme/tiny"}}}}


@dataclass(frozen=True)
class Attempt:
    """One attempt; the fields are those of the table."""

    what: str
    meets: str
    says: str = ""
    name: str = ""
    spec: Manifest = field(default_factory=dict)
    metadata: Manifest = field(default_factory=dict)
    status: Manifest | None = None
    of: str = ""
    """An LLMService that is there, to be edited, instead of one of its own."""
    edit: Manifest | None = None
    scale: int | None = None
    request: Manifest | None = None

    @classmethod
    def of_entry(cls, number: int, entry: Manifest) -> Self:
        """Return the attempt of one entry of the table; what gives itself no name has one by its number."""
        rest = {key: value for key, value in entry.items() if key != "try"}
        return cls(**{"what": entry["try"], "name": f"try-{number}", **rest})

    @property
    def llmservice(self) -> Manifest:
        """The LLMService to create."""
        spec = _merged(_PLAIN, self.spec)
        source = self.spec.get("model", {}).get("source", {})
        if source and "huggingFace" not in source:
            spec["model"]["source"].pop("huggingFace")
        body = {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {**self.metadata, "name": self.name},
            "spec": spec,
        }
        return body if self.status is None else {**body, "status": self.status}


def attempts() -> list[Attempt]:
    """Return the whole table."""
    groups = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    entries = [entry for group in groups for entry in group["attempts"]]
    return [Attempt.of_entry(number, entry) for number, entry in enumerate(entries)]


def _merged(one: Manifest, other: Manifest) -> Manifest:
    merged = dict(one)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
