"""The generated pages: equal to what is committed, and complete."""

from pathlib import Path

from llmservice_operator.conditions import REASONS, ConditionType, Reason
from reference import api_page, conditions_page, metrics_page, openapi
from reference.explanations import MEANINGS, REASON_EXPLANATIONS

DOCS = Path(__file__).parents[4] / "docs"


def test_the_committed_pages_are_what_the_code_generates() -> None:
    assert (DOCS / "api.md").read_text() == api_page.render(), "run `make crd`"
    assert (DOCS / "conditions.md").read_text() == conditions_page.render(), "run `make crd`"
    assert (DOCS / "metrics.md").read_text() == metrics_page.render(), "run `make crd`"
    assert (DOCS / "openapi.json").read_text() == openapi.render(), "run `make crd`"


def test_every_condition_and_reason_is_explained() -> None:
    assert MEANINGS.keys() == set(ConditionType)
    assert REASON_EXPLANATIONS.keys() == set(Reason)


def test_every_reason_that_blocks_has_a_fix_and_a_command() -> None:
    for reason in REASONS[ConditionType.STALLED]["True"]:
        explanation = REASON_EXPLANATIONS[reason]
        assert explanation.fix, reason
        assert explanation.command, reason


def test_the_api_page_names_field_type_bounds_default_and_rule() -> None:
    page = api_page.render()
    assert "| `replicas` | integer, 0 to 100 | Number of server pods; 0 is as suspend." in page
    assert "Default: 1. Example: 2. |" in page
    assert "- Rule: name exactly one source: huggingFace, pvc, http or s3.\n" in page
    assert "| [`tolerations`](#specschedulingtolerations) | list of object |" in page


def test_a_reason_is_explained_where_it_belongs_and_only_named_elsewhere() -> None:
    page = conditions_page.render()
    assert page.count("| `ModelNotFound` |") == 1
    assert page.index("## ModelCached") < page.index("| `ModelNotFound` |") < page.index("## Scheduled")
