"""docs/faults.md tells of every fault that is tried, and where it is: the mark stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.campaign.kinds import KINDS

ROOT = Path(__file__).parents[2]
ROWS = {f"F{number:02}" for number in (*range(1, 30), *range(53, 57), 59)}
LINES = [line for line in (ROOT / "docs" / "faults.md").read_text().splitlines() if line.startswith("| F")]


def marks(text: str) -> set[str]:
    """Return the rows that a text names, be it as F05 or in the name of a test."""
    return {mark.upper() for mark in re.findall(r"(?i)(?<![a-z0-9])f\d\d(?![a-z0-9])", text)}


def test_every_fault_is_told_once() -> None:
    told = [mark for line in LINES for mark in marks(line.split("|")[1])]
    assert sorted(told) == sorted(ROWS)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("|")[1].strip())
def test_a_fault_is_marked_where_it_is_tried(line: str) -> None:
    _, rows, _, _, where, _ = line.split("|")
    files = [ROOT / f"{name}.py" for name in re.findall(r"`(tests/[^`]+)`", where)]
    kinds = re.findall(r"`make campaign`, (\w+)", where)
    assert files or kinds
    assert set(kinds) <= KINDS.keys()
    files += [ROOT / "tests" / "campaign" / f"{kind}.py" for kind in kinds]
    assert marks(rows) <= set().union(*(marks(file.read_text()) for file in files))
