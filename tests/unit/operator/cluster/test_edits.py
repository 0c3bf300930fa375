"""Which changes of an LLMService somebody waits for."""

from typing import Any

import pytest

from llmservice_operator.cluster.edits import is_edit
from llmservice_operator.cluster.store import Entry


def entry(generation: int = 1, status: dict[str, Any] | None = None, uid: str = "u1", annotation: str = "") -> Entry:
    meta = {"namespace": "default", "name": "llama", "uid": uid, "generation": generation}
    meta |= {"annotations": {annotation: "new"}} if annotation else {}
    return Entry.of({"metadata": meta, "status": status or {}})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(entry(1), entry(2), True, id="another spec"),
        pytest.param(entry(), entry(annotation="llmservice.dev/restart"), True, id="a restart that is asked for"),
        pytest.param(entry(uid="u1"), entry(uid="u2"), True, id="deleted and made again"),
        pytest.param(entry(), entry(annotation="argocd.argoproj.io/tracking-id"), False, id="an annotation of others"),
        pytest.param(entry(), entry(status={"observedGeneration": 1}), False, id="our own status"),
        pytest.param(None, entry(), False, id="new"),
        pytest.param(None, entry(1, {"observedGeneration": 0}), False, id="new, with the status of the schema"),
        pytest.param(None, entry(2, {"observedGeneration": 2}), False, id="at the start, as it was left"),
        pytest.param(None, entry(2, {"observedGeneration": 1}), True, id="edited while no operator ran"),
    ],
)
def test_an_edit(before: Entry | None, after: Entry, expected: bool) -> None:
    assert is_edit(before, after) is expected
