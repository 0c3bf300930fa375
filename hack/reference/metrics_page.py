"""docs/metrics.md: every metric of the server, from the recorder itself."""

from __future__ import annotations

from collections.abc import Iterator

from inference_server.metrics import Metrics
from inference_server.state import ServerState

_INTRODUCTION = """\
# Metrics

`GET /metrics` on the management port (9090), in Prometheus' text format. The same facts have up to three names: ours,
OpenTelemetry's for generative AI in Prometheus' spelling, and vLLM's, so that dashboards, KEDA rules and the scrapers
of inference gateways that were made for vLLM work unchanged. This page is generated from the recorder.

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
    ("process_", "The web process", "From the process itself; the engine is a process of its own and not in these.\n"),
)


def render() -> str:
    """Return the page."""
    metrics = Metrics()
    metrics.watch(ServerState())
    rows = dict(sorted(_rows(metrics)))
    parts = [_INTRODUCTION]
    for prefix, title, text in _FAMILIES:
        table = "".join(row for name, row in rows.items() if name.startswith(prefix))
        parts.append(
            f"\n## {title}\n\n{text}{text and chr(10)}| name | type | labels | meaning |\n|---|---|---|---|\n{table}"
        )
    return "".join(parts)


def _rows(metrics: Metrics) -> Iterator[tuple[str, str]]:
    labels = metrics.labels()
    for family in metrics.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        named = ", ".join(f"`{label}`" for label in labels.get(family.name, ()))
        yield name, f"| `{name}` | {family.type} | {named} | {family.documentation} |\n"
