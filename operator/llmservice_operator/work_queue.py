"""The one queue between everything that may mean work and the workers: keys, not events, so that fifty changes are one
reconcile.

The rules are controller-runtime's: a key waits at most once, is never with two workers, and is done once more if it
comes again meanwhile; failures back off per key; changes people wait for go before start-up and resync.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from enum import IntEnum
from typing import Final, Generic, TypeVar

from llmservice_operator import metrics

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF_SECONDS: Final = 0.005
LONGEST_BACKOFF_SECONDS: Final = 1000.0
_NAME: Final = metrics.CONTROLLER


class Priority(IntEnum):
    """Which keys go first."""

    LIVE = 0
    """Something changed."""
    RESYNC = 1
    """Nothing is known to have changed: the start, the regular look at everything."""


class WorkQueue(Generic[K]):
    """A keyed, de-duplicating, rate-limited queue for one event loop. Its timers belong to that loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._waiting: dict[Priority, deque[K]] = {priority: deque() for priority in Priority}
        self._queued: dict[K, tuple[Priority, float]] = {}
        self._processing: set[K] = set()
        self._again: dict[K, Priority] = {}
        self._failures: dict[K, tuple[int, float]] = {}
        """How often in a row, and since when."""
        self._timers: dict[K, tuple[float, asyncio.TimerHandle]] = {}
        self._wakers: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._queued)

    def add(self, key: K, priority: Priority = Priority.LIVE) -> None:
        """Ask for `key` to be done. One that waits keeps its place, or moves up; one in work is done once more."""
        metrics.QUEUE_ADDS.labels(_NAME).inc()
        if key in self._processing:
            self._again[key] = min(priority, self._again.get(key, priority))
            return
        if key in self._queued:
            known, since = self._queued[key]
            if priority >= known:
                return
            self._waiting[known].remove(key)
            self._queued[key] = (priority, since)
        else:
            self._queued[key] = (priority, self._clock())
        self._waiting[priority].append(key)
        metrics.QUEUE_DEPTH.labels(_NAME).set(len(self._queued))
        self._wake_one()

    def add_after(self, key: K, seconds: float, priority: Priority = Priority.LIVE) -> None:
        """Ask for `key` to be done after a while. There is one timer per key: the earliest wins."""
        due = self._clock() + seconds
        known = self._timers.get(key)
        if known is not None:
            if known[0] <= due:
                return
            known[1].cancel()
        handle = asyncio.get_running_loop().call_later(max(0.0, seconds), self._fire, key, priority)
        self._timers[key] = (due, handle)

    def retry(self, key: K, at_least_seconds: float = 0.0) -> float:
        """Ask for `key` again after its back-off, which doubles with each failure in a row; return the delay in
        seconds.

        It is at most twice as long as the failures have lasted: changes that come meanwhile are tried, too, and in a
        rollout twenty may fail within a second.
        """
        failures, since = self._failures.get(key, (0, self._clock()))
        self._failures[key] = failures + 1, since
        backoff = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 30))
        lasted = max(FIRST_BACKOFF_SECONDS, 2 * (self._clock() - since))
        delay = max(min(backoff, lasted), at_least_seconds)
        metrics.QUEUE_RETRIES.labels(_NAME).inc()
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """End the back-off of a key that succeeded."""
        self._failures.pop(key, None)

    def drop_timer(self, key: K) -> None:
        """Take back what `add_after` asked for: the reconcile that begins now decides anew when to come back."""
        known = self._timers.pop(key, None)
        if known is not None:
            known[1].cancel()

    async def get(self) -> K:
        """Wait for the next key and take it; the taker must call `done`."""
        while not self._queued:
            waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._wakers.append(waker)
            try:
                await waker
            except asyncio.CancelledError:
                # It may have been woken already; then the key is for another one who waits.
                if waker in self._wakers:
                    self._wakers.remove(waker)
                elif self._queued:
                    self._wake_one()
                raise
        lane = next(self._waiting[priority] for priority in Priority if self._waiting[priority])
        key = lane.popleft()
        _, since = self._queued.pop(key)
        self._processing.add(key)
        metrics.QUEUE_DEPTH.labels(_NAME).set(len(self._queued))
        metrics.QUEUE_SECONDS.labels(_NAME).observe(self._clock() - since)
        if self._queued:
            self._wake_one()
        return key

    def done(self, key: K) -> None:
        """Give a key back; if it was asked for meanwhile, it waits again."""
        self._processing.discard(key)
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, again)

    def close(self) -> None:
        """Cancel every timer."""
        for _, handle in self._timers.values():
            handle.cancel()
        self._timers.clear()

    def _fire(self, key: K, priority: Priority) -> None:
        self._timers.pop(key, None)
        self.add(key, priority)

    def _wake_one(self) -> None:
        while self._wakers:
            waker = self._wakers.popleft()
            if not waker.done():
                waker.set_result(None)
                return
