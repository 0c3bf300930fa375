"""Which children look so troubled that their events are read."""

from datetime import timedelta
from typing import Any

import pytest

from llmservice_operator import troubles
from llmservice_operator.children import Children
from llmservice_operator.conditions import timestamp
from tests.support.builders import NOW


def made(kind: str, seconds_ago: float, **status: Any) -> dict[str, Any]:
    created = timestamp(NOW - timedelta(seconds=seconds_ago))
    return {"kind": kind, "metadata": {"name": kind, "uid": kind, "creationTimestamp": created}, "status": status}


@pytest.mark.parametrize(
    ("age_seconds", "found"),
    [
        pytest.param(1, [], id="both only start"),
        pytest.param(3, ["Job"], id="a Job would have its pod by now"),
        pytest.param(6, ["PersistentVolumeClaim", "Job"], id="both are late"),
    ],
)
def test_a_job_without_a_pod_is_looked_at_sooner_than_a_volume(age_seconds: float, found: list[str]) -> None:
    claim, job = made("PersistentVolumeClaim", age_seconds, phase="Pending"), made("Job", age_seconds)
    assert [item["kind"] for item in troubles.troubled(Children(claims=(claim,), jobs=(job,)), NOW)] == found
