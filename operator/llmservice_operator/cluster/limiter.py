"""The client-side rate limit: a token bucket before every request, closed while the API server says so."""

import asyncio
import time
from collections.abc import Callable


class RateLimiter:
    """A token bucket that callers wait at, in the order they came.

    It protects the API server from our own bugs. Its rate is far above what the operator needs when all is well.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic):
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._filled_at = clock()
        self._closed_until = 0.0
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Take one token, waiting until there is one."""
        async with self._turn:
            while (delay := self._delay_seconds()) > 0:  # noqa: ASYNC110 - it waits for time to pass
                await asyncio.sleep(delay)
            self._tokens -= 1

    def close_for(self, seconds: float) -> None:
        """Let nothing through for `seconds`: the API server answered with Retry-After."""
        self._closed_until = max(self._closed_until, self._clock() + seconds)

    def _delay_seconds(self) -> float:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        until_token = 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._per_second
        return max(until_token, self._closed_until - now)
