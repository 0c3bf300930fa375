"""Every field of the spec with values of every kind: pydantic and a real API server give the same verdict."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from llmservice_operator.schema import InvalidLLMService, parse
from tests.support.api_client import ApiClient
from tests.support.controlplane import ControlPlane
from tests.support.corpus import cases, llmservice

Path = tuple[str | int, ...]

# No value is in the corpus' list of source ranges: only the API server minds a value that is twice in a set.
VALUES: tuple[Any, ...] = (
    *(True, -1, 0, 1, 127, 65536, 2**31, 1.5),
    *("", "a", "A", "1", "-1", "..", "/a", "a/b", "a/../b", "a b", "a\n", "é", "x" * 64, "x" * 254),
    *("1Gi", "1500m", "1e3", "192.168.0.0/16", "https://a.example", "ftp://a.example"),
    *("None", "system-x", "node-role.kubernetes.io/x", "nvidia.com/gpu"),
    *([], ["a"], [1], {}, {"a": "b"}, {"a": 1}, {"cpu": "1"}),
)


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """Return the path of every value below `value`, objects and lists included."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from leaves(child, (*path, key))
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from leaves(child, (*path, number))


def replaced(spec: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(spec)
    at: Any = changed
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    return changed


def is_accepted_by_pydantic(spec: dict[str, Any]) -> bool:
    manifest = llmservice(spec)
    manifest["metadata"]["uid"] = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
    try:
        parse(manifest)
    except InvalidLLMService:
        return False
    return True


METRICS = {
    "provider": "HPA",
    "minReplicas": 1,
    "maxReplicas": 3,
    "metrics": [
        {
            "type": "Object",
            "object": {
                "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "s"},
                "metric": {
                    "name": "rps",
                    "selector": {
                        "matchLabels": {"a": "b"},
                        "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}],
                    },
                },
                "target": {"type": "Value", "value": 100},
            },
        },
        {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}},
    ],
}
(WHOLE,) = (case.spec for case in cases() if case.name == "a whole set of fields")
TOLERATION = {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5}
SPECS = {
    "hub": {**WHOLE, "scheduling": {**WHOLE["scheduling"], "tolerations": [TOLERATION]}},
    "claim": {"model": {"source": {"pvc": {"claimName": "models", "path": "a/b"}}}, "scaling": METRICS},
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_pydantic_and_the_api_server_agree_on_every_field(plane: ControlPlane, spec: dict[str, Any]) -> None:
    disagreements = []
    with ApiClient(plane, "default") as api:
        for path in leaves(spec):
            for value in VALUES:
                changed = replaced(spec, path, value)
                answer = api.create(llmservice(changed), dry_run=True)
                assert answer.status in (201, 422), answer.message
                if answer.accepted is not is_accepted_by_pydantic(changed):
                    disagreements.append((path, value, answer.message))
    assert disagreements == []
