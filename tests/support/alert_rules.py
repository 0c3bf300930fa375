"""The rules of deploy/monitoring, the metrics that they ask for, and those that docs/metrics.md and programs have."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT: Final = Path(__file__).parents[2]
GROUPS: Final[list[dict[str, Any]]] = yaml.safe_load((ROOT / "deploy/monitoring/alerts.yaml").read_text())["spec"][
    "groups"
]
RULES: Final[list[dict[str, Any]]] = [rule for group in GROUPS for rule in group["rules"]]
OF_SERVERS: Final = "llmservice-servers"
"""The group that asks servers; the others ask the operator."""
_ROW = re.compile(r"^\| `([\w:]+)` \| (\w+) \| (.*?) \|", re.MULTILINE)
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)(?:\s*\{([^}]*)\})?(?!\w|\s*\()")
_GROUPING = re.compile(r"\b(?:by|on|ignoring|without)\s*\([^)]*\)")
_WORDS = {"and", "or", "unless", "by", "on", "max", "sum", "m", "h", "d"}


def documented_metrics() -> dict[str, set[str]]:
    """Return the labels of each metric of the page, by the names of its samples."""
    found: dict[str, set[str]] = {}
    for name, kind, labels in _ROW.findall((ROOT / "docs/metrics.md").read_text()):
        of_all = set(re.findall(r"`(\w+)`", labels))
        if kind == "histogram":
            found |= {f"{name}_bucket": of_all | {"le"}, f"{name}_count": of_all, f"{name}_sum": of_all}
        else:
            found[name] = of_all
    return found


def exported_metrics(text: str) -> set[str]:
    """Return the names of the samples that a program's /metrics has, or will have once something happens."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    families = text_string_to_metric_families(text)
    return {family.name + suffix for family in families for suffix in suffixes.get(family.type, ("",))}


def metrics_asked_for(*, of_servers: bool) -> set[str]:
    """Return the metrics that the rules ask of servers, or of the operator."""
    rules = [rule for group in GROUPS if (group["name"] == OF_SERVERS) is of_servers for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    return {metric for rule in rules for metric, _ in selectors(rule["expr"])} - recorded


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each metric that a PromQL expression asks for, with the labels that it chooses by."""
    plain = re.sub(r'"[^"]*"', '""', _GROUPING.sub("", expression))
    plain = re.sub(r"\[[^]]*\]", "", plain)
    for name, matchers in _SELECTOR.findall(plain):
        if name not in _WORDS:
            yield name, set(re.findall(r"(\w+)\s*[=!]", matchers))
