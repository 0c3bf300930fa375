"""docs/faults.md tells of every fault that is tried, and where it is: the mark stands there."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

from tests.campaign.kinds import KINDS
from tests.support.rows import marks_of

ROOT = Path(__file__).parents[2]
ROWS = {f"F{number:02}" for number in (*range(1, 30), *range(53, 57), 59)}
marks = partial(marks_of, letter="F")
LINES = [line for line in (ROOT / "docs" / "faults.md").read_text().splitlines() if line.startswith("| F")]


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
