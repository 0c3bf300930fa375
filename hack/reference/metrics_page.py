"""docs/metrics.md: every metric of the server, from the recorder itself, and of the operator, from its module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.metrics import MetricWrapperBase

from inference_server.metrics import Metrics
from inference_server.state import ServerState
from llmservice_operator import metrics as operator_metrics

_INTRODUCTION = """\
# Metrics

Servers answer `GET /metrics` on their management port (9090), the operator on port 8080, both in Prometheus' text
format. This page is generated from the code; [alerts.md](alerts.md) has the alerts that are made of it.

## How to scrape

With Prometheus Operator, `kubectl apply -k deploy/monitoring` brings a PodMonitor for the operator, one for the servers
of all namespaces, and the alerts. An overlay adds the labels by which your Prometheus chooses monitors and rules.

Without it, pods carry the annotations `prometheus.io/scrape`, `prometheus.io/port` and `prometheus.io/path`, which the
job `kubernetes-pods` of Prometheus' Helm chart follows. The alerts tell LLMServices apart by the targets' labels
`namespace`, `pod` and `app_kubernetes_io_instance`, which both ways give. The rules are what stands under `spec` in
[deploy/monitoring/alerts.yaml](../deploy/monitoring/alerts.yaml).

Under `spec.networkPolicy` only the namespaces of `managementNamespaces` in the operator's configuration reach the
management port of servers: the one where Prometheus runs belongs there. The metrics need no key.
"""
_SERVER_INTRODUCTION = """
## The server

The same facts have up to three names: ours, OpenTelemetry's for generative AI in Prometheus' spelling, and vLLM's, so
that dashboards, KEDA rules and the scrapers of inference gateways that were made for vLLM work unchanged.

A *sequence* is one choice of one prompt; a request with `n` 3 has three. Running and waiting count sequences. Nothing
is counted per token: counters are summed once for each step of the engine, histograms see each step or each request.
Tenants, request ids and the client's words are never labels.
"""
_FAMILIES = (
    ("llmservice_", "Ours", ""),
    (
        "gen_ai_",
        "OpenTelemetry's",
        "The operation is `chat` for /v1/chat/completions and `text_completion` for the other routes; the provider is\n"
        "`llmservice`. `error_type` is empty for what went well and else the error's `code`.\n",
    ),
    ("vllm:", "vLLM's", "`model_name` is the model's id in the API, `engine` is always 0.\n"),
    (
        "process_",
        "The web process",
        "From the process itself; the engine is a process of its own and not in these. The operator has them, too.\n",
    ),
)
_OPERATOR_INTRODUCTION = """
## The operator

Queue and reconciles carry controller-runtime's names, so that dashboards made for it work; `controller` and `name` are
always `llmservice`. Both replicas watch, and show every LLMService; only the one that leads reconciles, so the queue of
the other one only grows. `llmservice_namespace` and `llmservice` say which LLMService; [conditions.md](conditions.md)
explains conditions and reasons.

"""


def render() -> str:
    """Return the page."""
    rows = sorted(_server_rows())
    parts = [_INTRODUCTION, _SERVER_INTRODUCTION]
    for prefix, title, text in _FAMILIES:
        table = _table(row for row in rows if row.startswith(f"| `{prefix}"))
        parts.append(f"\n### {title}\n\n{text}{text and chr(10)}{table}")
    return "".join([*parts, _OPERATOR_INTRODUCTION, _table(sorted(_operator_rows()))])


def _table(rows: Iterable[str]) -> str:
    return "| name | type | labels | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _server_rows() -> Iterator[str]:
    metrics = Metrics()
    metrics.watch(ServerState())
    labels = metrics.labels()
    for family in metrics.registry.collect():
        yield _row(family.name, family.type, labels.get(family.name, ()), family.documentation)


def _operator_rows() -> Iterator[str]:
    for metric in vars(operator_metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            yield _row(family.name, family.type, metric._labelnames, f"{family.documentation}.")


def _row(name: str, kind: str, labels: tuple[str, ...], meaning: str) -> str:
    full_name = f"{name}_total" if kind == "counter" else name
    return f"| `{full_name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {meaning} |\n"
