"""Arrivals of the open loop."""

import pytest

from benchmarks.rounds import poisson_arrivals


def test_arrivals_ascend_at_the_rate_asked_for_and_are_the_same_for_one_seed() -> None:
    arrivals = poisson_arrivals(requests_per_second=5.0, count=2000, seed=1)
    assert arrivals == sorted(arrivals)
    assert len(arrivals) / arrivals[-1] == pytest.approx(5.0, rel=0.1)
    assert arrivals == poisson_arrivals(5.0, 2000, seed=1)
    assert arrivals != poisson_arrivals(5.0, 2000, seed=2)
