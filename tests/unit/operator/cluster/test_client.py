"""What is sent as an apply is read as YAML."""

import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from llmservice_operator.cluster.client import as_yaml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@hypothesis_settings(deadline=None)
@given(TEXTS, TEXTS)
def test_any_text_is_read_from_yaml_as_it_was_written(key: str, value: str) -> None:
    assert yaml.safe_load(as_yaml({"data": {key: value}, "more": [value, 1, None]})) == {
        "data": {key: value},
        "more": [value, 1, None],
    }


def test_half_a_surrogate_pair_is_replaced() -> None:
    assert yaml.safe_load(as_yaml({"a": "\ud83e!"})) == {"a": "\ufffd!"}
