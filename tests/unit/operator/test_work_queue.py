"""The queue's rules, those of controller-runtime."""

import asyncio

import pytest

from llmservice_operator.work_queue import LIVE_IN_A_ROW, LONGEST_BACKOFF_SECONDS, Priority, WorkQueue


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


async def test_live_changes_go_first() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("routine")
    queue.add("moved up")
    queue.add("live", Priority.LIVE)
    queue.add("moved up", Priority.LIVE)
    queue.add("live")
    assert [await queue.get() for _ in range(3)] == ["live", "moved up", "routine"]
    assert len(queue) == 0


async def test_live_changes_without_end_leave_every_fifth_turn_to_others() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for number in range(3):
        queue.add(f"routine {number}")
    taken = []
    for number in range(15):
        queue.add(f"live {number}", Priority.LIVE)
        queue.add(f"live {number} again", Priority.LIVE)
        taken.append(await queue.get())
    places = [place for place, key in enumerate(taken) if key.startswith("routine")]
    assert places == [LIVE_IN_A_ROW, 2 * LIVE_IN_A_ROW + 1, 3 * LIVE_IN_A_ROW + 2]


async def test_a_live_change_of_a_key_in_work_goes_first_once_more() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("b")
    queue.add("a", Priority.LIVE)
    queue.add("a")
    queue.done("a")
    assert [await queue.get() for _ in range(2)] == ["a", "b"]


async def test_a_live_change_that_failed_is_tried_again_before_the_storm() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("failed", Priority.LIVE)
    queue.add("not allowed", Priority.LIVE)
    for key in ("failed", "not allowed"):
        assert await queue.get() == key
    queue.retry("failed")
    queue.put_back("not allowed")
    for key in ("failed", "not allowed"):
        queue.done(key)
    queue.add("storm")
    async with asyncio.timeout(2):
        while len(queue) < 3:  # noqa: ASYNC110 - the queue sets no event for those who take nothing
            await asyncio.sleep(0.001)
    assert [await queue.get() for _ in range(3)] == ["not allowed", "failed", "storm"]


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
