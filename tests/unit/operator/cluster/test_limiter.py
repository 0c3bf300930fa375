"""The client-side rate limit."""

import time

from llmservice_operator.cluster.limiter import RateLimiter


async def test_a_burst_passes_and_the_rest_is_spaced() -> None:
    limiter = RateLimiter(per_second=50, burst=5)
    started = time.monotonic()
    for _ in range(10):
        await limiter.wait()
    assert 0.08 <= time.monotonic() - started < 1.0


async def test_retry_after_holds_everything_back() -> None:
    limiter = RateLimiter(per_second=1000, burst=10)
    limiter.close_for(0.1)
    started = time.monotonic()
    await limiter.wait()
    assert time.monotonic() - started >= 0.1
