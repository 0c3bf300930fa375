"""A hang is told from slowness."""

from __future__ import annotations

from inference_server.engine.watchdog import LOAD_STALL_SECONDS, Watchdog


def test_a_two_hour_load_that_moves_is_fine() -> None:
    watchdog = Watchdog(now=0.0)
    for minute in range(120):
        watchdog.progressed(minute, minute * 60.0)
        assert watchdog.complaint(minute * 60.0 + 59) is None


def test_a_load_that_reports_without_moving_is_a_hang_after_ten_minutes() -> None:
    watchdog = Watchdog(now=0.0)
    for second in range(0, 700, 10):
        watchdog.progressed(5, float(second))
    assert watchdog.complaint(LOAD_STALL_SECONDS) is None
    assert watchdog.complaint(LOAD_STALL_SECONDS + 1) == "the model's load has not moved for 600 s"


def test_a_ping_may_wait_for_the_longest_step_and_no_longer() -> None:
    watchdog = Watchdog(now=0.0)
    watchdog.loaded(longest_step_seconds=30.0)
    watchdog.pinged(1, 100.0)
    watchdog.pinged(2, 110.0)
    assert watchdog.complaint(130.0) is None
    assert watchdog.complaint(130.5) == "the engine has not finished a step within 30 s"
    watchdog.ponged(1)
    assert watchdog.complaint(139.0) is None
    watchdog.ponged(2)
    assert watchdog.complaint(10_000.0) is None
