"""Rates and what is told to a client that must wait."""

from __future__ import annotations

import pytest

from inference_server.rate import SlidingRate, retry_after_seconds


def test_the_rate_is_over_the_window_and_old_events_leave_it() -> None:
    rate = SlidingRate(window_seconds=10, now=100.0)
    for second in range(10):
        rate.add(5, 100.0 + second)
    assert rate.per_second(110.0) == 5.0
    assert rate.per_second(114.5) == 2.5
    assert rate.per_second(200.0) == 0.0


def test_a_young_counter_divides_by_its_age() -> None:
    rate = SlidingRate(window_seconds=60, now=0.0)
    rate.add(8, 3.0)
    assert rate.per_second(4.0) == 2.0


@pytest.mark.parametrize(
    ("waiting", "finished_per_second", "seconds"),
    [
        pytest.param(10, 2.0, 5, id="the line moves two a second"),
        pytest.param(1, 100.0, 1, id="never less than one"),
        pytest.param(1000, 0.5, 120, id="never more than two minutes"),
        pytest.param(5, 0.0, 120, id="nothing has finished yet"),
    ],
)
def test_retry_after_is_when_the_line_will_have_moved_on(
    waiting: int, finished_per_second: float, seconds: int
) -> None:
    assert retry_after_seconds(waiting, finished_per_second) == seconds
