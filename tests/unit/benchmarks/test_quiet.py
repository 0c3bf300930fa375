"""CPU accounting: who used how much."""

import os

import pytest

from benchmarks.quiet import Meter, busy_seconds, others_cores, process_seconds

TICKS = os.sysconf("SC_CLK_TCK")


def test_idle_time_and_waiting_for_disks_are_not_busy_and_stolen_time_is() -> None:
    stat = (
        f"cpu  {1 * TICKS} {2 * TICKS} {3 * TICKS} 999999 888888 {4 * TICKS} {5 * TICKS} {6 * TICKS} 0 0\ncpu0 1 1 1\n"
    )
    assert busy_seconds(stat) == 21


def test_a_process_counts_with_the_children_it_has_waited_for_and_its_name_may_hold_brackets() -> None:
    stat = f"42 (VLLM (Worker) 1) S 7 42 99 0 -1 4194304 1 2 3 4 {1 * TICKS} {2 * TICKS} {3 * TICKS} {4 * TICKS} 20 0"
    assert process_seconds(stat) == (99, 10)


@pytest.mark.parametrize(
    ("busy", "own", "wall", "cores"),
    [
        pytest.param(10.0, 6.0, 2.0, 2.0, id="two neighbours"),
        pytest.param(4.0, 4.0, 2.0, 0.0, id="alone"),
        pytest.param(4.0, 4.02, 2.0, 0.0, id="ticks are coarse"),
    ],
)
def test_others_used_what_was_busy_and_not_ours(busy: float, own: float, wall: float, cores: float) -> None:
    assert others_cores(busy, own, wall) == cores


def test_a_meter_measures_its_block() -> None:
    with Meter() as meter:
        sum(range(1000))
    assert meter.wall > 0
    assert meter.others >= 0
