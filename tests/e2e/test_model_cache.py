"""What becomes of models on a real volume when a service goes from one to the next."""

from __future__ import annotations

from typing import Any

import pytest

from demo.kubectl import Kubectl, Manifest, condition, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import archived, llmservice

NAME = "archived"
SHORT: dict[str, Any] = {"rollout": {"revisionHistoryLimit": 1}}


def _roll_out(kubectl: Kubectl, manifest: Manifest) -> Manifest:
    kubectl.apply(manifest)
    wait_for(lambda: is_ready(kubectl.get("llmservice", NAME)), seconds=120, what=f"{NAME} is Ready")
    return kubectl.get("llmservice", NAME) or {}


@pytest.mark.timeout(400)
def test_a_model_that_no_revision_names_any_more_is_removed_and_comes_back_by_download(kubectl: Kubectl) -> None:
    from_hub = llmservice(NAME, profile="fake", **SHORT)
    _roll_out(kubectl, from_hub)
    _roll_out(kubectl, archived(**SHORT))
    _roll_out(kubectl, archived(**SHORT, engine={"quantization": {"method": "None"}, "maxModelLen": 256}))

    def is_swept() -> bool:
        claim = kubectl.get("persistentvolumeclaim", f"{NAME}-cache") or {}
        annotations = claim["metadata"]["annotations"]
        jobs = [job["metadata"]["name"] for job in kubectl.list("jobs")]
        is_known = annotations["llmservice.dev/cached"].count('"path"') > 1
        is_over = "llmservice.dev/leftovers" not in annotations and not any("-sweep-" in job for job in jobs)
        return is_over and not is_known

    wait_for(is_swept, seconds=60, what="the hub's model is removed")
    # Had its files stayed, it would be AlreadyPresent.
    back = _roll_out(kubectl, from_hub)
    assert condition(back, "ModelCached")["reason"] == "Downloaded"
