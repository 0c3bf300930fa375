"""Rates and means of late: tokens a second for the state document, seconds in a slot for Retry-After."""

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


class RecentMean:
    """The mean of the last `count` values."""

    def __init__(self, count: int) -> None:
        self._values: deque[float] = deque(maxlen=count)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Take one more value."""
        if len(self._values) == self._values.maxlen:
            self._sum -= self._values[0]
        self._values.append(value)
        self._sum += value

    def mean(self) -> float | None:
        """Return the mean, or None without a value."""
        return self._sum / len(self._values) if self._values else None


def retry_after_seconds(wait_seconds: float | None) -> int:
    """Return what to tell a client that would wait so long; None is what was never measured."""
    lowest, highest = RETRY_AFTER_SECONDS
    return highest if wait_seconds is None else min(max(math.ceil(wait_seconds), lowest), highest)
