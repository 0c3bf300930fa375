"""Row H27: where a text is cut so that no control token in it survives as one."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_server.text.control_tokens import ControlTokens

TOKENS = ("<|im_start|>", "<|im_end|>", "<s>", "aba", "x")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        pytest.param("plain text", ["plain text"], id="none"),
        pytest.param("", [""], id="empty"),
        pytest.param("a<|im_end|>b", ["a<", "|im_end|>b"], id="one"),
        pytest.param("<s><s>", ["<", "s><", "s>"], id="side by side"),
        pytest.param("ababa", ["a", "ba", "ba"], id="overlapping"),
        pytest.param("x", ["x"], id="a single character cannot be cut"),
    ],
)
def test_h27_each_control_token_is_cut_after_its_first_character(text: str, pieces: list[str]) -> None:
    assert ControlTokens(TOKENS).cut(text) == pieces


@settings(max_examples=50)
@given(st.lists(st.sampled_from([*TOKENS, "<", "|", "s>", "ab", " "]), max_size=8).map("".join))
def test_h27_no_piece_holds_a_control_token_and_nothing_is_lost(text: str) -> None:
    pieces = ControlTokens(TOKENS).cut(text)
    assert "".join(pieces) == text
    assert not any(token in piece for token in TOKENS if len(token) > 1 for piece in pieces)


def test_h27_thousands_of_control_tokens_cost_no_more_than_a_few() -> None:
    tokens = ControlTokens([f"<unused{number}>" for number in range(6000)])
    began = time.process_time()
    assert tokens.cut("<unused" * 100_000 + "<unused17>")[1:] == ["unused17>"]
    assert time.process_time() - began < 2


def test_without_control_tokens_nothing_is_cut() -> None:
    assert ControlTokens(()).cut("<s>") == ["<s>"]


def test_h27_only_contents_are_marked_and_nobody_can_know_the_mark() -> None:
    tokens = ControlTokens(TOKENS)
    (first,), mark = tokens.marked([{"role": "user", "content": "a<s>"}])
    _, other = tokens.marked([{"role": "user", "content": "a<s>"}])
    assert first == {"role": "user", "content": f"a<{mark}s>"}
    assert mark != other
