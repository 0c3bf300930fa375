"""The one queue between everything that may mean work and the workers: keys, not events, so that fifty changes are one
reconcile.

The rules are controller-runtime's: a key waits at most once, is never with two workers, and is done once more if it
comes again meanwhile; failures back off per key; what people wait for goes before start-up, resync and the storm that
follows from other changes, which gets every fifth turn nevertheless.
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
LONGEST_BACKOFF_SECONDS: Final = 20.0
"""Short, because after an outage nothing else says that it is over: half a minute later all is to be right again."""
LIVE_IN_A_ROW: Final = 4
"""After so many live keys a routine one has its turn: a client that edits without end holds up nobody else for good."""
_NAME: Final = metrics.CONTROLLER


class Priority(IntEnum):
    """Which keys go first."""

    LIVE = 0
    """Somebody changed what an LLMService asks for, and waits."""
    ROUTINE = 1
    """All else: the start, news of children, a time that has come, the regular look at everything."""


class WorkQueue(Generic[K]):
    """A keyed, de-duplicating, rate-limited queue for one event loop. Its timers belong to that loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._waiting: dict[Priority, deque[K]] = {priority: deque() for priority in Priority}
        self._queued: dict[K, tuple[Priority, float]] = {}
        self._processing: dict[K, Priority] = {}
        """With the priority that each was taken with."""
        self._live_in_a_row = 0
        self._again: dict[K, Priority] = {}
        self._failures: dict[K, tuple[int, float]] = {}
        """How often in a row, and since when."""
        self._timers: dict[K, tuple[float, asyncio.TimerHandle]] = {}
        self._wakers: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._queued)

    def add(self, key: K, priority: Priority = Priority.ROUTINE) -> None:
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

    def add_after(self, key: K, seconds: float, priority: Priority = Priority.ROUTINE) -> None:
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
        """Ask for a key in work again after its back-off, which doubles with each failure in a row, as urgently as it
        was asked for; return the delay in seconds.

        It is at most twice as long as the failures have lasted: changes that come meanwhile are tried, too, and in a
        rollout twenty may fail within a second.
        """
        failures, since = self._failures.get(key, (0, self._clock()))
        self._failures[key] = failures + 1, since
        backoff = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 30))
        lasted = max(FIRST_BACKOFF_SECONDS, 2 * (self._clock() - since))
        delay = max(min(backoff, lasted), at_least_seconds)
        metrics.QUEUE_RETRIES.labels(_NAME).inc()
        self.add_after(key, delay, self._processing.get(key, Priority.ROUTINE))
        return delay

    def put_back(self, key: K) -> None:
        """Ask for a key in work once more, as urgently as it was asked for."""
        self.add(key, self._processing[key])

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
        key = self._waiting[self._turn()].popleft()
        priority, since = self._queued.pop(key)
        self._processing[key] = priority
        metrics.QUEUE_DEPTH.labels(_NAME).set(len(self._queued))
        metrics.QUEUE_SECONDS.labels(_NAME).observe(self._clock() - since)
        if self._queued:
            self._wake_one()
        return key

    def done(self, key: K) -> None:
        """Give a key back; if it was asked for meanwhile, it waits again."""
        self._processing.pop(key, None)
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, again)

    def close(self) -> None:
        """Cancel every timer."""
        for _, handle in self._timers.values():
            handle.cancel()
        self._timers.clear()

    def _turn(self) -> Priority:
        """Return whose turn it is, while any key waits."""
        live, routine = self._waiting[Priority.LIVE], self._waiting[Priority.ROUTINE]
        if live and (not routine or self._live_in_a_row < LIVE_IN_A_ROW):
            self._live_in_a_row += 1
            return Priority.LIVE
        self._live_in_a_row = 0
        return Priority.ROUTINE

    def _fire(self, key: K, priority: Priority) -> None:
        self._timers.pop(key, None)
        self.add(key, priority)

    def _wake_one(self) -> None:
        while self._wakers:
            waker = self._wakers.popleft()
            if not waker.done():
                waker.set_result(None)
                return
