"""The spec's values win, the profile's fill the gaps, and together they stay possible."""

from typing import Any

import pytest

from llmservice_operator.desired.effective import Effective, effective
from tests.support.builders import make_llmservice, make_settings


def values(profile: dict[str, Any], **spec: Any) -> Effective:
    settings = make_settings(profile=profile)
    found = settings.profile("default")
    assert found is not None
    return effective(make_llmservice(**spec), found, settings)


def test_gpus_are_request_and_limit_alike() -> None:
    resources = values({"gpu": {"count": 1}, "requests": {"cpu": "1"}, "limits": {"memory": "4Gi"}}).resources
    assert resources == {
        "requests": {"cpu": "1", "nvidia.com/gpu": "1"},
        "limits": {"memory": "4Gi", "nvidia.com/gpu": "1"},
    }


def test_a_spec_can_do_without_the_gpu_of_its_profile() -> None:
    assert "nvidia.com/gpu" not in str(values({"gpu": {"count": 1}}, resources={"gpu": {"count": 0}}).resources)


@pytest.mark.parametrize(
    ("chosen", "requests", "limits"),
    [
        pytest.param({"limits": {"memory": "4Gi"}}, "4Gi", "4Gi", id="a lower limit lowers the profile's request"),
        pytest.param(
            {"requests": {"memory": "20Gi"}}, "20Gi", "20Gi", id="a higher request raises the profile's limit"
        ),
        pytest.param({"requests": {"memory": "1024Mi"}}, "1Gi", "16Gi", id="what fits stays"),
    ],
)
def test_a_request_never_exceeds_its_limit(chosen: dict[str, Any], requests: str, limits: str) -> None:
    found = values({"requests": {"memory": "8Gi"}, "limits": {"memory": "16Gi"}}, resources=chosen)
    assert (found.requests["memory"], found.limits["memory"]) == (requests, limits)


def test_zero_in_a_spec_is_a_value() -> None:
    found = values(
        {"maxQueueDepth": 64, "warmup": {"backoffLimit": 3}},
        engine={"batching": {"maxQueueDepth": 0}},
        cache={"warmup": {"backoffLimit": 0}},
    )
    assert (found.max_queue_depth, found.warmup_backoff_limit) == (0, 0)


def test_node_selectors_and_tolerations_of_spec_and_profile_add_up() -> None:
    found = values(
        {"nodeSelector": {"a": "1", "b": "1"}, "tolerations": [{"key": "x", "operator": "Exists"}]},
        scheduling={"nodeSelector": {"b": "2"}, "tolerations": [{"key": "y"}]},
    )
    assert found.node_selector == {"a": "1", "b": "2"}
    assert found.tolerations == [{"key": "x", "operator": "Exists"}, {"key": "y"}]
