"""deploy/monitoring/alerts.yaml by Prometheus' own tool: each alert fires when it should and only then."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
import yaml

from cluster import binaries
from tests.support.alert_rules import GROUPS, RULES, documented_metrics, selectors

DOCS: Final = Path(__file__).parents[2] / "docs"
ALERTS: Final = {rule["alert"]: rule for rule in RULES if "alert" in rule}

Series = Mapping[str, str]
"""Samples a minute apart by their series, in promtool's notation: 1x5 is one and five more, 0+2x5 counts by two."""

OPERATOR: Final = {"namespace": "system", "pod": "operator-a", "job": "operator", "instance": "10.0.0.1:8080"}
FOLLOWER: Final = {"namespace": "system", "pod": "operator-b", "job": "operator", "instance": "10.0.0.2:8080"}
SERVER: Final = {
    **{"namespace": "team", "pod": "gemma-a", "job": "servers", "instance": "10.0.0.3:9090"},
    "app_kubernetes_io_instance": "gemma",
}
GEMMA: Final = {"llmservice_namespace": "team", "llmservice": "gemma"}
OF_THE_OPERATOR: Final = {"namespace": "system"}
OF_ITS_POD: Final = {"namespace": "system", "pod": "operator-a"}
OF_GEMMA: Final = {**GEMMA, "namespace": "team"}
OF_ITS_SERVERS: Final = {"namespace": "team", "llmservice": "gemma", "app_kubernetes_io_instance": "gemma"}


def series(metric: str, target: Mapping[str, str], /, **labels: str) -> str:
    """Return a series as it is after it was scraped from `target`."""
    written = ", ".join(f'{label}="{value}"' for label, value in {**target, **labels}.items())
    return f"{metric}{{{written}}}"


def leader(target: Mapping[str, str] = OPERATOR) -> str:
    return series("llmservice_operator_leader", target)


def abnormal(condition: str, reason: str, target: Mapping[str, str] = OPERATOR) -> str:
    return series("llmservice_operator_abnormal_conditions", target, **GEMMA, condition=condition, reason=reason)


def serving(target: Mapping[str, str] = OPERATOR) -> str:
    return series("llmservice_operator_serving", target, **GEMMA)


def requests(code: str, finish_reason: str = "stop", route: str = "/generate") -> str:
    return series("llmservice_requests_total", SERVER, route=route, code=code, finish_reason=finish_reason)


def first_tokens(le: str) -> str:
    return series("llmservice_time_to_first_token_seconds_bucket", SERVER, le=le)


DEPTH: Final = series("workqueue_depth", OPERATOR, name="llmservice")
RECONCILE_ERRORS: Final = series("controller_runtime_reconcile_errors_total", OPERATOR, controller="llmservice")
WATCH_AGE: Final = series("llmservice_operator_watch_age_seconds", OPERATOR, kind="Job")
STARTED: Final = series("process_start_time_seconds", OPERATOR)
SERVER_STARTED: Final = series("process_start_time_seconds", SERVER)
SERVER_READY: Final = series("llmservice_ready", SERVER)
REJECTED: Final = series("llmservice_rejected_requests_total", SERVER, reason="queue_full")
THRICE: Final = "1x9 2x9 3x9 4x30"
TWICE: Final = "1x9 2x9 3x40"


FIRES = [
    # alert, when, series, labels besides the severity
    ("LLMServiceOperatorDown", "6m", {}, {}),
    ("LLMServiceOperatorNotLeading", "3m", {leader(): "0x9", leader(FOLLOWER): "0x9"}, OF_THE_OPERATOR),
    ("LLMServiceOperatorBlind", "7m", {WATCH_AGE: "0+60x9"}, OF_ITS_POD),
    ("LLMServiceOperatorErrors", "25m", {RECONCILE_ERRORS: "0+1x30"}, OF_THE_OPERATOR),
    ("LLMServiceOperatorQueueStuck", "16m", {DEPTH: "3x20", leader(): "1x20"}, {**OPERATOR, "name": "llmservice"}),
    ("LLMServiceOperatorRestarts", "40m", {STARTED: THRICE, leader(): "1x60"}, OF_ITS_POD),
    ("LLMServiceDown", "20m", {serving(): "1x5 0x20", abnormal("Serving", "NoReadyEndpoints"): "_x5 1x20"}, OF_GEMMA),
    (
        "LLMServiceStalled",
        "16m",
        {abnormal("Stalled", "InsufficientGPU"): "1x20", abnormal("ModelCached", "Downloading"): "1x20"},
        {**OF_GEMMA, "reason": "InsufficientGPU"},
    ),
    ("LLMServiceRolledBack", "2m", {abnormal("Degraded", "RolledBack"): "1x9"}, {**OF_GEMMA, "reason": "RolledBack"}),
    ("LLMServiceRolledBack", "2m", {abnormal("Degraded", "RolloutHeld"): "1x9"}, {**OF_GEMMA, "reason": "RolloutHeld"}),
    ("LLMServiceDegraded", "16m", {abnormal("Degraded", "CrashLoop"): "1x20"}, {**OF_GEMMA, "reason": "CrashLoop"}),
    (
        "LLMServiceModelCacheFailing",
        "16m",
        {abnormal("ModelCached", "HubUnreachable"): "1x20", abnormal("Stalled", "HubUnreachable"): "1x20"},
        {**OF_GEMMA, "reason": "HubUnreachable"},
    ),
    (
        "LLMServiceNotReady",
        "65m",
        {abnormal("Ready", "Downloading"): "1x40", abnormal("Ready", "RolloutInProgress"): "_x40 1x40"},
        OF_GEMMA,
    ),
    ("LLMServiceErrors", "20m", {requests("200"): "0+8x30", requests("500", ""): "0+2x30"}, OF_ITS_SERVERS),
    ("LLMServiceErrors", "20m", {requests("200"): "0+8x30", requests("200", ""): "0+2x30"}, OF_ITS_SERVERS),
    ("LLMServiceOverloaded", "30m", {REJECTED: "0+2x40", requests("200"): "0+8x40"}, OF_ITS_SERVERS),
    ("LLMServiceServerRestarts", "40m", {SERVER_STARTED: THRICE, SERVER_READY: "1x60"}, OF_ITS_SERVERS),
    (
        "LLMServiceSlowFirstToken",
        "30m",
        {first_tokens("10.0"): "0+9x40", first_tokens("30.0"): "0+10x40", first_tokens("+Inf"): "0+10x40"},
        OF_ITS_SERVERS,
    ),
]

STAYS_SILENT = [
    ("LLMServiceOperatorDown", "a replica follows", "20m", {leader(): "0x30"}),
    ("LLMServiceOperatorNotLeading", "one leads", "20m", {leader(): "0x30", leader(FOLLOWER): "1x30"}),
    ("LLMServiceOperatorNotLeading", "it changes hands", "7m", {leader(): "1x4 0x9", leader(FOLLOWER): "0x5 1x9"}),
    ("LLMServiceOperatorBlind", "an ordinary silence", "20m", {WATCH_AGE: "55x30"}),
    ("LLMServiceOperatorErrors", "an outage that is over", "25m", {RECONCILE_ERRORS: "0x5 100x40"}),
    ("LLMServiceOperatorQueueStuck", "a follower", "20m", {DEPTH: "3x30", leader(): "0x30"}),
    ("LLMServiceOperatorQueueStuck", "it was empty between", "20m", {DEPTH: "3x9 0 3x20", leader(): "1x30"}),
    ("LLMServiceOperatorRestarts", "an upgrade or two", "40m", {STARTED: TWICE, leader(): "1x60"}),
    ("LLMServiceOperatorRestarts", "another program", "40m", {STARTED: THRICE}),
    ("LLMServiceDown", "it never served", "40m", {serving(): "0x60", abnormal("Serving", "NoReadyEndpoints"): "1x60"}),
    ("LLMServiceDown", "suspended", "40m", {serving(): "1x5 0x60"}),
    (
        "LLMServiceDown",
        "a restart in place",
        "20m",
        {serving(): "1x5 0x6 1x30", abnormal("Serving", "NoReadyEndpoints"): "_x5 1x6 _x30"},
    ),
    ("LLMServiceStalled", "rolled back", "40m", {abnormal("Stalled", "RolledBack"): "1x60"}),
    (
        "LLMServiceStalled",
        "its model cannot be had",
        "40m",
        {abnormal("Stalled", "AccessDenied"): "1x60", abnormal("ModelCached", "AccessDenied"): "1x60"},
    ),
    ("LLMServiceRolledBack", "a crash loop", "40m", {abnormal("Degraded", "CrashLoop"): "1x60"}),
    ("LLMServiceDegraded", "rolled back", "40m", {abnormal("Degraded", "RolledBack"): "1x60"}),
    (
        "LLMServiceDegraded",
        "stalled, which says it",
        "40m",
        {abnormal("Degraded", "CrashLoop"): "1x60", abnormal("Stalled", "CrashLoop"): "1x60"},
    ),
    ("LLMServiceModelCacheFailing", "a download", "40m", {abnormal("ModelCached", "Downloading"): "1x60"}),
    (
        "LLMServiceNotReady",
        "stalled, which says it",
        "2h",
        {abnormal("Ready", "QuotaExceeded"): "1x130", abnormal("Stalled", "QuotaExceeded"): "1x130"},
    ),
    (
        "LLMServiceNotReady",
        "paused",
        "2h",
        {abnormal("Ready", "RolloutInProgress"): "1x130", abnormal("Paused", "PausedByUser"): "1x130"},
    ),
    ("LLMServiceNotReady", "a long start", "50m", {abnormal("Ready", "ReplicasNotReady"): "1x60"}),
    ("LLMServiceErrors", "one of three", "20m", {requests("200"): "0x5 2x30", requests("500", ""): "0x5 1x30"}),
    ("LLMServiceErrors", "one in a hundred", "20m", {requests("200"): "0+99x30", requests("500", ""): "0+1x30"}),
    ("LLMServiceErrors", "clients left", "20m", {requests("200"): "0+8x30", requests("200", "cancelled"): "0+9x30"}),
    ("LLMServiceErrors", "bad requests", "20m", {requests("200"): "0+8x30", requests("400", ""): "0+9x30"}),
    ("LLMServiceErrors", "probes", "20m", {requests("200"): "0+8x30", requests("200", "", "/health"): "0+9x30"}),
    ("LLMServiceOverloaded", "now and then", "40m", {REJECTED: "0+1x60", requests("200"): "0+20x60"}),
    ("LLMServiceServerRestarts", "twice", "40m", {SERVER_STARTED: TWICE, SERVER_READY: "1x60"}),
    ("LLMServiceServerRestarts", "another program", "40m", {SERVER_STARTED: THRICE}),
    (
        "LLMServiceSlowFirstToken",
        "quick",
        "40m",
        {first_tokens("1.0"): "0+10x60", first_tokens("10.0"): "0+10x60", first_tokens("+Inf"): "0+10x60"},
    ),
]


@pytest.fixture(scope="module")
def promtool() -> Path:
    return binaries.ensure(["promtool"])["promtool"]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Return the rules as Prometheus reads them."""
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": GROUPS}))
    return path


def firing(promtool: Path, rules: Path, at: str, given: Series, wanted: Sequence[dict[str, str]], alert: str) -> str:
    """Return what promtool finds wrong when exactly the `wanted` labels of `alert` should be firing."""
    samples = [{"labels": series("ALERTS", labels, alertstate="firing"), "value": 1} for labels in wanted]
    asked = f'ALERTS{{alertname="{alert}", alertstate="firing"}}'
    group = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in given.items()],
        "promql_expr_test": [{"expr": asked, "eval_time": at, "exp_samples": samples}],
    }
    path = rules.with_name("test.yaml")
    path.write_text(yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": "1m", "tests": [group]}))
    ran = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


@pytest.mark.parametrize(("alert", "at", "given", "labels"), FIRES, ids=[case[0] for case in FIRES])
def test_an_alert_fires(
    promtool: Path, rules: Path, alert: str, at: str, given: Series, labels: dict[str, str]
) -> None:
    wanted = {"alertname": alert, "severity": ALERTS[alert]["labels"]["severity"], **labels}
    assert firing(promtool, rules, at, given, [wanted], alert) == ""
    named = re.findall(r"\$labels\.(\w+)", str(ALERTS[alert]["annotations"]))
    assert set(named) <= wanted.keys()


@pytest.mark.parametrize(
    ("alert", "at", "given"),
    [pytest.param(alert, at, given, id=f"{alert}: {why}") for alert, why, at, given in STAYS_SILENT],
)
def test_an_alert_stays_silent(promtool: Path, rules: Path, alert: str, at: str, given: Series) -> None:
    assert firing(promtool, rules, at, given, [], alert) == ""


def test_what_both_replicas_of_the_operator_export_fires_once(promtool: Path, rules: Path) -> None:
    given = {abnormal("Degraded", "RolledBack", target): "1x9" for target in (OPERATOR, FOLLOWER)}
    wanted = {"alertname": "LLMServiceRolledBack", "severity": "warning", **OF_GEMMA, "reason": "RolledBack"}
    assert firing(promtool, rules, "5m", given, [wanted], "LLMServiceRolledBack") == ""


def test_prometheus_takes_the_rules(promtool: Path, rules: Path) -> None:
    checked = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout + checked.stderr


def test_every_alert_was_seen_to_fire_and_to_stay_silent() -> None:
    assert {case[0] for case in FIRES} == {case[0] for case in STAYS_SILENT} == ALERTS.keys()


def test_every_alert_says_what_it_is_and_has_a_runbook() -> None:
    page = (DOCS / "alerts.md").read_text()
    headings = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert headings == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"


def test_every_metric_and_label_of_the_alerts_is_documented() -> None:
    documented = documented_metrics()
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    for rule in RULES:
        for metric, labels in selectors(rule["expr"]):
            if metric not in recorded:
                assert labels <= documented[metric], (rule.get("alert"), metric)


def test_every_series_of_these_tests_is_one_that_there_is() -> None:
    documented = documented_metrics()
    given = [*(case[2] for case in FIRES), *(case[3] for case in STAYS_SILENT)]
    for name in {name for samples in given for name in samples}:
        ((metric, labels),) = selectors(name)
        assert labels - SERVER.keys() <= documented[metric], name
