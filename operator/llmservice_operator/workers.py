"""N workers that take keys from the queue and reconcile them, and never stop because one LLMService is broken."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from llmservice_operator import metrics
from llmservice_operator.cluster.errors import ApiError, NotLeadingError
from llmservice_operator.cluster.interface import OutdatedError, OwnerGoneError
from llmservice_operator.cluster.resources import Key
from llmservice_operator.work_queue import WorkQueue

logger = structlog.get_logger(__name__)

Reconcile = Callable[[Key], Awaitable[float | None]]
"""Reconciles one LLMService and returns after how many seconds to look again, or None."""
Complain = Callable[[Key, Exception], None]
"""Tells people about a reconcile that failed through our own fault."""

STUCK_FACTOR: Final = 2.0
NOT_LEADING_SECONDS: Final = 0.5
"""How long a worker pauses that was not allowed to write: about as long as the next try for the Lease takes."""


class Workers:
    """Runs `reconcile` for the keys of `queue`, `count` at a time, each within `timeout_seconds`."""

    def __init__(
        self,
        queue: WorkQueue[Key],
        reconcile: Reconcile,
        complain: Complain,
        *,
        count: int,
        timeout_seconds: float,
    ):
        self._queue = queue
        self._reconcile = reconcile
        self._complain = complain
        self._count = count
        self._timeout_seconds = timeout_seconds
        self._started_at: dict[Key, float] = {}

    @property
    def is_stuck(self) -> bool:
        """Whether a reconcile has outlived its time limit by far: then cancellation does not reach it."""
        oldest = min(self._started_at.values(), default=time.monotonic())
        return time.monotonic() - oldest > STUCK_FACTOR * self._timeout_seconds

    def measure(self) -> None:
        """Set the gauges of what is being done now."""
        now = time.monotonic()
        ages = [now - started_at for started_at in self._started_at.values()]
        metrics.UNFINISHED_SECONDS.labels(metrics.CONTROLLER).set(sum(ages))
        metrics.LONGEST_SECONDS.labels(metrics.CONTROLLER).set(max(ages, default=0.0))
        metrics.WORKERS.labels(metrics.CONTROLLER).set(self._count)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._count):
                tasks.create_task(self._work(), name=f"worker {number}")

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            self._started_at[key] = time.monotonic()
            metrics.ACTIVE_WORKERS.labels(metrics.CONTROLLER).inc()
            try:
                result = await self._one(key)
            finally:
                seconds = time.monotonic() - self._started_at.pop(key)
                metrics.ACTIVE_WORKERS.labels(metrics.CONTROLLER).dec()
                metrics.WORK_SECONDS.labels(metrics.CONTROLLER).observe(seconds)
                metrics.RECONCILE_SECONDS.labels(metrics.CONTROLLER).observe(seconds)
                self._queue.done(key)
            metrics.RECONCILES.labels(metrics.CONTROLLER, result).inc()

    async def _one(self, key: Key) -> str:
        """Reconcile one key, ask for it again if need be, and return the result as the metric names it."""
        self._queue.drop_timer(key)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                after_seconds = await self._reconcile(key)
        except OwnerGoneError:
            self._queue.forget(key)
            return "success"
        except OutdatedError as outdated:
            logger.debug("looking again", llmservice=str(key), why=str(outdated))
            self._queue.retry(key, outdated.retry_after_seconds)
            return "requeue"
        except NotLeadingError:
            # The Lease is renewed in a moment, or this worker is cancelled. The others of the queue would fare no
            # better, and a back-off would outlast the pause.
            self._queue.put_back(key)
            await asyncio.sleep(NOT_LEADING_SECONDS)
            return "requeue"
        except ApiError as error:
            self._fail(key, error.message, error.retry_after_seconds or 0.0)
            return "error"
        except TimeoutError:
            self._fail(key, f"took longer than {self._timeout_seconds:g} s")
            return "error"
        except Exception as error:
            logger.exception("reconcile failed", llmservice=str(key))
            self._complain(key, error)
            self._fail(key, f"{type(error).__name__}: {error}")
            return "error"
        self._queue.forget(key)
        if after_seconds is None:
            return "success"
        self._queue.add_after(key, after_seconds)
        return "requeue_after"

    def _fail(self, key: Key, message: str, at_least_seconds: float = 0.0) -> None:
        delay = self._queue.retry(key, at_least_seconds)
        metrics.RECONCILE_ERRORS.labels(metrics.CONTROLLER).inc()
        logger.warning("reconcile will be retried", llmservice=str(key), error=message, retry_seconds=round(delay, 3))
