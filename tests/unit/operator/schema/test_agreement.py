"""The pydantic schema on the corpus that tests/cluster/test_api_rules.py runs against a real API server."""

import pytest

from llmservice_operator import crd
from llmservice_operator.schema import InvalidLLMService, parse
from tests.support.corpus import RULE_MESSAGES, Case, cases, llmservice


def stored(case: Case) -> dict[str, object]:
    """Return the LLMService as the API server stores it: with a uid, and without fields whose value is null."""
    manifest = llmservice({key: value for key, value in case.spec.items() if value is not None})
    manifest["metadata"]["uid"] = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
    return manifest


@pytest.mark.parametrize("case", [case for case in cases() if not case.refused], ids=lambda case: case.name)
def test_pydantic_accepts_what_the_corpus_accepts(case: Case) -> None:
    assert parse(stored(case)).name == "example"


@pytest.mark.parametrize("case", [case for case in cases() if case.refused], ids=lambda case: case.name)
def test_pydantic_refuses_what_the_corpus_refuses(case: Case) -> None:
    with pytest.raises(InvalidLLMService) as refusal:
        parse(stored(case))
    assert case.message in str(refusal.value)
    assert case.field.removeprefix("spec") in str(refusal.value)


def test_every_rule_of_the_crd_is_in_the_corpus() -> None:
    found: set[str] = set()

    def collect(node: object) -> None:
        if isinstance(node, dict):
            found.update(rule["message"] for rule in node.get("x-kubernetes-validations", ()))
            for value in node.values():
                collect(value)
        elif isinstance(node, list):
            for value in node:
                collect(value)

    collect(crd.manifest())
    assert found - {crd.NAME_RULE["message"]} == RULE_MESSAGES
