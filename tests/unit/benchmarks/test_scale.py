"""What the benchmark of a thousand services reads from the audit log."""

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.scale.audit import AuditLog, Request
from benchmarks.scale.measuring import reaction_seconds, writes

OPERATOR = "llmservice-operator/0.1.0"


def line(second: float, verb: str, resource: str, name: str, agent: str = OPERATOR, subresource: str = "") -> str:
    """Return one line of the audit log."""
    target = {"resource": resource, "namespace": "team", "name": name}
    if subresource:
        target["subresource"] = subresource
    entry = {
        "kind": "Event",
        "verb": verb,
        "userAgent": agent,
        "objectRef": target,
        "requestReceivedTimestamp": f"2026-01-01T00:00:{second:09.6f}Z",
    }
    return json.dumps(entry, separators=(",", ":")) + "\n"


def requests(folder: Path, *lines: str) -> list[Request]:
    """Return what is read from a log of these lines."""
    log = folder / "audit.log"
    log.write_text("".join(lines))
    return AuditLog(log).news()


def test_writes_are_the_operators_and_its_lease_is_none(tmp_path: Path) -> None:
    found = requests(
        tmp_path,
        line(1, "patch", "llmservices", "model-1", agent="a-person"),
        line(2, "get", "services", "model-1"),
        line(3, "patch", "deployments", "model-1"),
        line(4, "patch", "llmservices", "model-1", subresource="status"),
        line(5, "patch", "leases", "llmservice-operator"),
        line(6, "patch", "pods", "model-1-abc", agent="kwok/v0.8.0"),
        line(7, "patch", "deployments", "model-2"),
    )
    assert writes(found) == Counter({"patch deployments": 2, "patch llmservices/status": 1})


def test_a_log_is_read_on_from_its_last_whole_line(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    first, second = line(1, "patch", "services", "model-1"), line(2, "patch", "services", "model-2")
    log.write_text(first + second[:30])
    audit = AuditLog(log)
    assert [request.name for request in audit.news()] == ["model-1"]
    log.write_text(first + second)
    assert [request.name for request in audit.news()] == ["model-2"]
    assert audit.news() == []


def test_a_reaction_is_the_first_write_for_the_service_after_its_edit(tmp_path: Path) -> None:
    found = requests(
        tmp_path,
        line(1, "patch", "llmservices", "model-1", subresource="status"),
        line(2, "patch", "llmservices", "model-1", agent="a-person"),
        line(2.1, "patch", "configmaps", "model-10-config-x"),
        line(2.2, "get", "configmaps", "model-1-config-x"),
        line(2.25, "patch", "configmaps", "model-1-config-x"),
        line(3, "patch", "llmservices", "model-1", subresource="status"),
    )
    assert reaction_seconds(found, "team", "model-1") == pytest.approx(0.25)
