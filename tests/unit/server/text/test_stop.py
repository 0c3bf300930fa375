"""Stop strings, at every way of cutting the text into pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_server.text.stop import StopScanner


def scan(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    scanner = StopScanner(stops)
    kept = ""
    for piece in pieces:
        kept += scanner.push(piece)
        if scanner.stopped:
            return kept, True
    return kept + scanner.finish(), False


@pytest.mark.parametrize(
    ("stops", "text", "kept"),
    [
        pytest.param(["STOP"], "go on STOP here", "go on ", id="in the middle"),
        pytest.param(["STOP"], "go STO on", "go STO on", id="only begun"),
        pytest.param(["b", "ab"], "xab", "x", id="two end at once, the earlier begins first"),
        pytest.param(["aab"], "aaab", "a", id="begins within a failed beginning"),
        pytest.param([], "anything", "anything", id="none"),
        pytest.param(["→"], "a → b", "a ", id="not ASCII"),
    ],
)
def test_the_text_is_cut_before_the_first_stop_string(stops: list[str], text: str, kept: str) -> None:
    for cuts in itertools.chain([()], itertools.combinations(range(1, len(text)), 2)):
        bounds = [0, *cuts, len(text)]
        pieces = [text[start:end] for start, end in itertools.pairwise(bounds)]
        assert scan(stops, pieces) == (kept, kept != text)


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3), st.lists(st.text("abc", max_size=4)))
def test_what_is_kept_never_holds_a_stop_string_and_is_a_beginning_of_the_text(
    stops: list[str], pieces: list[str]
) -> None:
    kept, stopped = scan(stops, pieces)
    text = "".join(pieces)
    assert text.startswith(kept)
    assert not any(stop in kept for stop in stops)
    assert stopped == any(stop in text for stop in stops)
