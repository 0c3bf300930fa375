"""Is a desired body already what stands in the cluster?"""

from typing import Any

import pytest

from llmservice_operator.cluster.subset import is_subset

CASES = [
    pytest.param({"a": 1}, {"a": 1, "default": 2}, True, id="the server added a default"),
    pytest.param({"a": 1}, {"a": 2}, False, id="another value"),
    pytest.param({"a": {"b": 1}}, {"a": None}, False, id="a missing map"),
    pytest.param({"a": {}}, {}, True, id="empty is stored as absent"),
    pytest.param({"a": []}, {"a": None}, True, id="an empty list too"),
    pytest.param({"a": [1, 2]}, {"a": [1, 2, 3]}, False, id="a longer list of scalars"),
    pytest.param(
        {"env": [{"name": "A", "value": "1"}]},
        {"env": [{"name": "B"}, {"name": "A", "value": "1"}]},
        True,
        id="named items are matched by name, theirs may be among them",
    ),
    pytest.param(
        {"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "2"}]}, False, id="a named item differs"
    ),
    pytest.param(
        {"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "a"}, {"key": "b"}]}, False, id="an atomic list"
    ),
    pytest.param(
        {"ports": [{"port": 80, "protocol": "TCP"}]},
        {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]},
        True,
        id="ports by number and protocol",
    ),
    pytest.param({"requests": {"memory": "1024Mi"}}, {"requests": {"memory": "1Gi"}}, True, id="equal quantities"),
    pytest.param({"limits": {"cpu": 2}}, {"limits": {"cpu": "2"}}, True, id="a quantity as a number"),
    pytest.param({"limits": {"cpu": "2"}}, {"limits": {"cpu": "2500m"}}, False, id="another quantity"),
    pytest.param({"value": "1024Mi"}, {"value": "1Gi"}, False, id="text that only looks like a quantity"),
]


@pytest.mark.parametrize(("desired", "live", "expected"), CASES)
def test_subset(desired: Any, live: Any, expected: bool) -> None:
    assert is_subset(desired, live) is expected
