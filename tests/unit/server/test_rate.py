"""Rates and what is told to a client that must wait."""

from __future__ import annotations

import pytest

from inference_server.rate import RecentMean, SlidingRate, retry_after_seconds


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


def test_a_mean_forgets_all_but_the_last_values() -> None:
    mean = RecentMean(3)
    assert mean.mean() is None
    for value in (100.0, 1.0, 2.0, 6.0):
        mean.add(value)
    assert mean.mean() == 3.0


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        pytest.param(4.2, 5, id="whole seconds, rounded up"),
        pytest.param(0.0, 1, id="never less than one"),
        pytest.param(2000.0, 120, id="never more than two minutes"),
        pytest.param(None, 120, id="nothing was measured yet"),
    ],
)
def test_retry_after_is_how_long_the_wait_would_be(wait: float | None, seconds: int) -> None:
    assert retry_after_seconds(wait) == seconds
