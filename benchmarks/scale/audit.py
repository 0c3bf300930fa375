"""What the operator asked of the API server and when, from the API server's own audit log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

OPERATOR = ("llmservice-operator/", "kopf/")
PERSON = "a-person"
READS = frozenset({"get", "list", "watch"})


@dataclass(frozen=True)
class Request:
    """One request that the API server has answered."""

    by_operator: bool
    verb: str
    target: str
    """The resource, and after a slash the subresource."""
    namespace: str
    name: str
    at: datetime
    """When the API server had received it."""

    @property
    def is_write(self) -> bool:
        return self.verb not in READS

    def concerns(self, namespace: str, llmservice: str) -> bool:
        """Whether it is about this LLMService or one of its children, which are named after it."""
        is_child = self.name == llmservice or self.name.startswith((f"{llmservice}-", f"{llmservice}."))
        return self.namespace == namespace and is_child


class AuditLog:
    """A log that grows; `news` is read piece by piece."""

    def __init__(self, path: Path):
        self._path = path
        self._offset = 0

    def news(self) -> list[Request]:
        """Return what the operator and people have asked since the last call, the operator's Lease aside."""
        found: list[Request] = []
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # Half written: the next call reads it.
                self._offset += len(line)
                if _may_be_ours(line):
                    found.append(_request(json.loads(line)))
        return [request for request in found if request.target != "leases"]


def _may_be_ours(line: bytes) -> bool:
    return any(f'"userAgent":"{agent}'.encode() in line for agent in (*OPERATOR, PERSON))


def _request(entry: dict[str, Any]) -> Request:
    target = entry.get("objectRef", {})
    subresource = f"/{target['subresource']}" if "subresource" in target else ""
    return Request(
        by_operator=entry["userAgent"].startswith(OPERATOR),
        verb=entry["verb"],
        target=f"{target.get('resource', '')}{subresource}",
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        at=datetime.fromisoformat(entry["requestReceivedTimestamp"]),
    )
