"""Tells a hung engine from a slow one, from what it says and when; decisions only, the client asks.

While loading, the engine is slow as long as its progress grows. Afterwards it answers pings between two steps, so an
unanswered ping older than its longest possible step is a hang.
"""

from __future__ import annotations

from collections import deque

LOAD_STALL_SECONDS = 600.0
"""A two-hour load that moves is fine; ten minutes without any movement is not."""


class Watchdog:
    """All times are CLOCK_MONOTONIC seconds, given by the caller."""

    def __init__(self, now: float) -> None:
        self._moved_at = now
        self._done = -1
        self._longest_step_seconds: float | None = None
        self._unanswered: deque[tuple[int, float]] = deque()

    def progressed(self, done: int, now: float) -> None:
        """The load has reported; only a change counts as movement."""
        if done != self._done:
            self._done, self._moved_at = done, now

    def loaded(self, longest_step_seconds: float) -> None:
        """From now on steps and pings are watched."""
        self._longest_step_seconds = longest_step_seconds

    def pinged(self, number: int, now: float) -> None:
        """A ping was sent."""
        self._unanswered.append((number, now))

    def ponged(self, number: int) -> None:
        """A ping was answered, and with it all before."""
        while self._unanswered and self._unanswered[0][0] <= number:
            self._unanswered.popleft()

    def complaint(self, now: float) -> str | None:
        """Return what is wrong at `now`, or None while the engine may just be busy."""
        if self._longest_step_seconds is None:
            if now - self._moved_at > LOAD_STALL_SECONDS:
                return f"the model's load has not moved for {LOAD_STALL_SECONDS:g} s"
            return None
        if self._unanswered and now - self._unanswered[0][1] > self._longest_step_seconds:
            return f"the engine has not finished a step within {self._longest_step_seconds:g} s"
        return None
