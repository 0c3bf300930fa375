"""docs/bad-input.md tells of every row of bad input, and what it says of one is shown where it says."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmservice_operator.conditions import REASONS, ConditionType, WarningReason
from tests.support.rows import marks_of

PAGE = Path(__file__).parents[2] / "docs" / "bad-input.md"
ROWS = {f"C{number:02}" for number in range(1, 66)}
marks = partial(marks_of, letter="C")
LINES = [line for line in PAGE.read_text().splitlines() if marks(line)]


def test_every_row_is_told() -> None:
    assert set().union(*map(marks, LINES)) == ROWS


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.strip("| ").partition(" | ")[0])
def test_a_row_is_marked_where_it_is_shown(line: str) -> None:
    links = re.findall(r"\]\((\.\./tests/[^)]+)\)", line)
    marked = [marks((PAGE.parent / link).read_text()) & marks(line) for link in links]
    assert set().union(*marked) == marks(line)
    assert all(marked)


def test_conditions_and_warnings_are_called_as_they_are() -> None:
    text = PAGE.read_text()
    found: list[Any] = re.findall(r"`(\w+)=(True|False)/(\w+)`", text)
    assert found
    for kind, status, reason in found:
        assert reason in REASONS[ConditionType(kind)].get(status, ()), (kind, reason)
    assert all(f"`{reason}`" in text for reason in WarningReason)
