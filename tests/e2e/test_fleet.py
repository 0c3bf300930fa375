"""Twenty services: an operator that has nothing to do does nothing, and its restart disturbs nobody."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from demo.install import OPERATOR_NAMESPACE
from demo.kubectl import Kubectl, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import llmservice

SERVICES = 20
IDLE_SECONDS = 120
OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:llmservice-operator"
WRITES = ("create", "update", "patch", "delete", "deletecollection")


def writes_of_the_operator(audit_log: Path, since_byte: int) -> list[str]:
    """Return "verb resource name" of each write in the audit log after `since_byte`."""
    with audit_log.open("rb") as log:
        log.seek(since_byte)
        events: list[dict[str, Any]] = [json.loads(line) for line in log if line.endswith(b"\n")]
    return [
        f"{event['verb']} {event['objectRef']['resource']} {event['objectRef'].get('name')}"
        for event in events
        if event["user"]["username"] == OPERATOR_USER
        and event["verb"] in WRITES
        and event["objectRef"]["resource"] != "leases"
    ]


@pytest.mark.timeout(600)
def test_twenty_settled_services_cost_no_write_when_idle_and_none_at_a_restart(kubectl: Kubectl) -> None:
    audit_log = Path(os.environ["LLMSERVICE_AUDIT_LOG"]) if "LLMSERVICE_AUDIT_LOG" in os.environ else None
    if audit_log is None:
        pytest.skip("a cluster of one's own has no audit log to read")
    names = [f"service-{number}" for number in range(SERVICES)]
    kubectl.apply(llmservice(names[0], profile="fake"))
    wait_for(lambda: is_ready(kubectl.get("llmservice", names[0])), seconds=90, what="the first service is Ready")
    shared = {"claimName": f"{names[0]}-cache"}
    kubectl.apply(*(llmservice(name, profile="fake", cache=shared) for name in names[1:]))
    wait_for(
        lambda: all(is_ready(found) for found in kubectl.list("llmservices")),
        seconds=300,
        every_seconds=2,
        what="all services are Ready",
    )

    operator = kubectl.in_namespace(OPERATOR_NAMESPACE)
    selector = "app.kubernetes.io/name=llmservice-operator"
    pods_before = {pod["metadata"]["uid"]: _restarts(pod) for pod in kubectl.list("pods")}
    position = audit_log.stat().st_size
    deadline = time.monotonic() + IDLE_SECONDS
    while time.monotonic() < deadline:
        assert writes_of_the_operator(audit_log, position) == []
        time.sleep(5)

    position = audit_log.stat().st_size
    old = {pod["metadata"]["uid"] for pod in operator.list("pods", selector)}
    operator.run("delete", "pod", "--selector", selector, "--wait=true")
    operator.run("rollout", "status", "deployment/llmservice-operator", "--timeout=60s")
    wait_for(
        lambda: {pod["metadata"]["uid"] for pod in operator.list("pods", selector)}.isdisjoint(old),
        seconds=30,
        what="a new operator pod runs",
    )
    # Readiness means synced caches; the first pass over 20 services takes well under this.
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        assert writes_of_the_operator(audit_log, position) == []
        time.sleep(1)
    assert {pod["metadata"]["uid"]: _restarts(pod) for pod in kubectl.list("pods")} == pods_before
    log = [json.loads(line) for line in operator.run("logs", "deployment/llmservice-operator").splitlines()]
    assert [entry for entry in log if entry["level"] not in ("debug", "info")] == []


def _restarts(pod: dict[str, Any]) -> int:
    return sum(container["restartCount"] for container in pod["status"].get("containerStatuses", []))
