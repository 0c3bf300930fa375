"""Reads corpus.yaml: specs with the verdict that the pydantic schema and a real API server must share."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_MODEL = {"source": {"huggingFace": {"repo": "acme/tiny"}}}
_DOCUMENT = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())


@dataclass(frozen=True)
class Case:
    """One spec. `message` and `field` are what a refusal must name; a case without them is accepted."""

    name: str
    spec: dict[str, Any]
    message: str = ""
    field: str = ""

    @property
    def refused(self) -> bool:
        return bool(self.message or self.field)


def llmservice(spec: dict[str, Any], name: str = "example", namespace: str = "default") -> dict[str, Any]:
    """Return an LLMService as a user would write it."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "llmservice.dev/v1alpha1", "kind": "LLMService", "metadata": metadata, "spec": spec}


def rule_cases() -> Iterator[Case]:
    """Return the cases of the schema's rules."""
    for rule in _DOCUMENT["rules"]:
        for number, spec in enumerate(rule["accepted"], start=1):
            yield Case(f"holds {number}: {rule['message']}", {"model": _MODEL, **spec})
        for number, spec in enumerate(rule["refused"], start=1):
            yield Case(f"broken {number}: {rule['message']}", {"model": _MODEL, **spec}, message=rule["message"])


def cases() -> tuple[Case, ...]:
    """Return every case."""
    faults = (
        Case(entry["case"], entry.get("whole", {"model": _MODEL, **entry.get("spec", {})}), field=entry["field"])
        for entry in _DOCUMENT["faults"]
    )
    accepted = (Case(entry["case"], {"model": _MODEL, **entry["spec"]}) for entry in _DOCUMENT["accepted"])
    return (*rule_cases(), *faults, *accepted)


RULE_MESSAGES = frozenset(rule["message"] for rule in _DOCUMENT["rules"])
