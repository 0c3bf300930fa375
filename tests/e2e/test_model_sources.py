"""A model out of an archive on a web server, held to its digest: the whole way, with real warm-ups."""

from __future__ import annotations

import pytest

from demo import ask
from demo.kubectl import Kubectl, Manifest, condition, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import archived, reach

pytestmark = pytest.mark.timeout(240)


def test_an_archive_serves_once_its_files_have_the_digest_asked_for(kubectl: Kubectl) -> None:
    kubectl.apply(archived(digest="sha256:" + "ab" * 32))

    def refused() -> Manifest | None:
        found = kubectl.get("llmservice", "archived")
        return found if condition(found, "ModelCached").get("reason") == "DigestMismatch" else None

    there = wait_for(refused, seconds=90, what="the digest is refused")["status"]["model"]["digest"]
    assert there in condition(kubectl.get("llmservice", "archived"), "ModelCached")["message"]
    assert kubectl.get("deployment", "archived") is None

    kubectl.apply(archived(digest=there))
    wait_for(lambda: is_ready(kubectl.get("llmservice", "archived")), seconds=90, what="archived is Ready")
    with reach(kubectl, "archived") as url:
        assert ask.answer(f"{url}/v1/models")["data"][0]["id"] == "tiny-llama"
