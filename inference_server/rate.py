"""Rates over a sliding window: tokens a second for the state document, finished requests for Retry-After."""

from __future__ import annotations

import math
from collections import deque

RETRY_AFTER_SECONDS = (1, 120)
"""Bounds of what a client is told to wait; the upper one is also the answer while nothing has been measured yet."""


class SlidingRate:
    """Counts events over the last `window_seconds`; times are CLOCK_MONOTONIC seconds, given by the caller."""

    def __init__(self, window_seconds: float, now: float) -> None:
        self._window = window_seconds
        self._began = now
        self._events: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, count: int, now: float) -> None:
        """Count `count` events at `now`."""
        self._events.append((now, count))
        self._sum += count
        self._forget(now)

    def per_second(self, now: float) -> float:
        """Return the rate over the window, or over the life of the counter where that is shorter."""
        self._forget(now)
        return self._sum / max(min(self._window, now - self._began), 1.0)

    def _forget(self, now: float) -> None:
        while self._events and self._events[0][0] < now - self._window:
            self._sum -= self._events.popleft()[1]


def retry_after_seconds(waiting: int, finished_per_second: float) -> int:
    """Return after how many seconds the line of `waiting` requests will have moved on, at the measured rate."""
    lowest, highest = RETRY_AFTER_SECONDS
    if finished_per_second <= 0:
        return highest if waiting else lowest
    return min(max(math.ceil(waiting / finished_per_second), lowest), highest)
