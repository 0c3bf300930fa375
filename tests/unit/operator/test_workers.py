"""Workers outlive whatever a reconcile does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from llmservice_operator import workers
from llmservice_operator.cluster.errors import BusyError, NotLeadingError
from llmservice_operator.cluster.interface import OutdatedError, OwnerGoneError
from llmservice_operator.cluster.resources import Key
from llmservice_operator.work_queue import WorkQueue
from llmservice_operator.workers import Workers

KEY, OTHER = Key("default", "llama"), Key("default", "other")


@asynccontextmanager
async def working(
    reconcile: Callable[[Key], Awaitable[float | None]], count: int = 1, timeout_seconds: float = 30
) -> AsyncIterator[tuple[WorkQueue[Key], list[Exception]]]:
    """Run workers while the body does; yield their queue and what they complained about."""
    queue: WorkQueue[Key] = WorkQueue()
    complaints: list[Exception] = []
    crew = Workers(
        queue, reconcile, lambda _, error: complaints.append(error), count=count, timeout_seconds=timeout_seconds
    )
    task = asyncio.create_task(crew.run())
    try:
        async with asyncio.timeout(5):
            yield queue, complaints
    finally:
        task.cancel()
        await asyncio.wait([task])
        queue.close()


async def test_an_exception_is_told_and_the_worker_goes_on() -> None:
    done = asyncio.Event()

    async def reconcile(key: Key) -> None:
        if key == KEY:
            raise ZeroDivisionError
        done.set()

    async with working(reconcile) as (queue, complaints):
        queue.add(KEY)
        queue.add(OTHER)
        await done.wait()
    assert isinstance(complaints[0], ZeroDivisionError)


async def test_without_the_lease_the_queue_is_not_worked_off_in_vain() -> None:
    attempts: list[Key] = []
    has_tried = asyncio.Event()

    async def reconcile(key: Key) -> None:
        attempts.append(key)
        has_tried.set()
        raise NotLeadingError("this replica does not lead")

    async with working(reconcile) as (queue, _):
        queue.add(KEY)
        queue.add(OTHER)
        await has_tried.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert attempts == [KEY]
    assert len(queue) == 2


async def test_with_the_lease_again_it_goes_on_without_a_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "NOT_LEADING_SECONDS", 0)
    attempts: list[Key] = []
    done = asyncio.Event()

    async def reconcile(key: Key) -> None:
        attempts.append(key)
        if len(attempts) == 1:
            raise NotLeadingError("this replica does not lead")
        if key == KEY:
            done.set()

    async with working(reconcile) as (queue, complaints):
        queue.add(KEY)
        queue.add(OTHER)
        await done.wait()
    assert attempts == [KEY, OTHER, KEY]
    assert complaints == []


async def test_a_failed_reconcile_is_tried_again() -> None:
    attempts: list[Key] = []
    done = asyncio.Event()

    async def reconcile(key: Key) -> None:
        attempts.append(key)
        match len(attempts):
            case 1:
                raise BusyError("the API server is busy", status=503)
            case 2:
                raise OutdatedError("something changed meanwhile")
            case _:
                done.set()

    async with working(reconcile) as (queue, complaints):
        queue.add(KEY)
        await done.wait()
    assert attempts == [KEY, KEY, KEY]
    assert complaints == []


async def test_a_reconcile_that_hangs_is_given_up_and_tried_again() -> None:
    attempts: list[Key] = []
    done = asyncio.Event()

    async def reconcile(key: Key) -> None:
        attempts.append(key)
        if len(attempts) == 1:
            await asyncio.Event().wait()
        done.set()

    async with working(reconcile, timeout_seconds=0.05) as (queue, _):
        queue.add(KEY)
        await done.wait()
    assert len(attempts) == 2


async def test_nothing_is_retried_for_an_llmservice_that_is_gone() -> None:
    attempts: list[Key] = []
    done = asyncio.Event()

    async def reconcile(key: Key) -> None:
        attempts.append(key)
        if key == KEY:
            raise OwnerGoneError("gone")
        done.set()

    async with working(reconcile) as (queue, _):
        queue.add(KEY)
        queue.add_after(OTHER, 0.05)
        await done.wait()
    assert attempts == [KEY, OTHER]


async def test_one_key_is_never_with_two_workers() -> None:
    at_once: list[int] = []
    active = 0
    done = asyncio.Event()

    async def reconcile(key: Key) -> float | None:
        nonlocal active
        active += 1
        at_once.append(active)
        await asyncio.sleep(0.005)
        active -= 1
        if len(at_once) == 5:
            done.set()
            return None
        return 0.001

    async with working(reconcile, count=4) as (queue, _):
        queue.add(KEY)
        while not done.is_set():
            queue.add(KEY)
            await asyncio.sleep(0.001)
    assert set(at_once) == {1}
