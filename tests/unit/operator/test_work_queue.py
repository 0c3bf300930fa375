"""The queue's rules, those of controller-runtime."""

import asyncio

import pytest

from llmservice_operator.work_queue import LONGEST_BACKOFF_SECONDS, Priority, WorkQueue


async def test_a_key_waits_once_however_often_it_is_added() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(50):
        queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_a_key_added_while_in_work_is_done_once_more() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_live_changes_go_before_a_resync() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("resync", Priority.RESYNC)
    queue.add("moved up", Priority.RESYNC)
    queue.add("live")
    queue.add("moved up", Priority.LIVE)
    assert [await queue.get() for _ in range(3)] == ["live", "moved up", "resync"]


async def test_of_two_timers_the_earlier_wins() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 100)
    queue.add_after("a", 0.01)
    queue.add_after("a", 50)
    async with asyncio.timeout(2):
        assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0
    queue.close()


async def test_a_dropped_timer_does_not_fire() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.01)
    queue.drop_timer("a")
    queue.add_after("b", 0.02)
    async with asyncio.timeout(2):
        assert await queue.get() == "b"
    assert len(queue) == 0


async def test_back_off_doubles_up_to_a_bound_and_ends_with_success() -> None:
    now = 0.0
    queue: WorkQueue[str] = WorkQueue(clock=lambda: now)
    delays = []
    for _ in range(20):
        delays.append(queue.retry("a"))
        now += delays[-1]
    assert delays[:4] == [0.005, 0.01, 0.02, 0.04]
    assert delays[-1] == LONGEST_BACKOFF_SECONDS
    queue.forget("a")
    assert queue.retry("a") == 0.005
    assert queue.retry("a", at_least_seconds=7) == 7
    queue.close()


async def test_many_failures_at_once_do_not_push_the_next_attempt_far_away() -> None:
    now = 0.0
    queue: WorkQueue[str] = WorkQueue(clock=lambda: now)
    for _ in range(20):
        now += 0.1
        delay = queue.retry("a")
    assert 1 < delay < 4
    queue.close()


async def test_every_worker_that_waits_gets_a_key() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for key in "abc":
        queue.add(key)
    async with asyncio.timeout(2):
        assert sorted(await asyncio.gather(*waiting)) == ["a", "b", "c"]


async def test_a_cancelled_worker_leaves_the_key_to_another() -> None:
    queue: WorkQueue[str] = WorkQueue()
    cancelled, waiting = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    async with asyncio.timeout(2):
        assert await waiting == "a"
