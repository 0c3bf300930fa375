"""Events under pressure: few per object, a series for repeats, and nobody waits. A server on loopback keeps them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from prometheus_client import REGISTRY

from llmservice_operator.cluster import events
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.events import EventRecorder
from llmservice_operator.cluster.interface import Notice

Manifest = dict[str, Any]

SERVING: Final = Notice("Normal", "AllReplicasReady", "ReadyTrue", "every replica answers")
CRASHING: Final = Notice("Warning", "CrashLoop", "DegradedTrue", "the server ends again and again")


def owner(name: str = "llama") -> Manifest:
    return {"metadata": {"namespace": "default", "name": name, "uid": f"uid-{name}"}}


class ApiServer:
    """Keeps events by name, and can be told to answer nothing, or errors."""

    def __init__(self) -> None:
        self.events: dict[str, Manifest] = {}
        self.refuses = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await self.answers.wait()
        body = await request.json()
        name = request.path.rsplit("/", 1)[1]
        if self.refuses or (request.method == "PATCH" and name not in self.events):
            code = 403 if self.refuses else 404
            return web.json_response({"kind": "Status", "code": code, "message": "no"}, status=code)
        event = {**self.events[name], **body} if request.method == "PATCH" else body
        self.events[event["metadata"]["name"]] = event
        return web.json_response(event)

    def kept(self) -> list[tuple[str, str, int]]:
        """Return type, reason and count of every event."""
        return [(kept["type"], kept["reason"], kept.get("series", {}).get("count", 1)) for kept in self.events.values()]


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@asynccontextmanager
async def recording(clock: Clock) -> AsyncIterator[tuple[EventRecorder, ApiServer]]:
    """Yield a recorder whose events are written when the test flushes it."""
    api = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    client = Client(configuration)
    try:
        yield EventRecorder(client, "operator-1", clock), api
    finally:
        await client.close()
        await runner.cleanup()


def dropped() -> float:
    """Return how many events were dropped so far."""
    return REGISTRY.get_sample_value("llmservice_operator_events_dropped_total") or 0.0


async def test_a_repeat_within_ten_minutes_counts_up_the_same_event() -> None:
    clock = Clock()
    async with recording(clock) as (recorder, api):
        for pause in (0, 300, 599, 601):
            clock.seconds += pause
            recorder.record(owner(), CRASHING)
            await recorder.flush(2)
    assert api.kept() == [("Warning", "CrashLoop", 3), ("Warning", "CrashLoop", 1)]


async def test_another_message_or_another_object_is_an_event_of_its_own() -> None:
    async with recording(Clock()) as (recorder, api):
        recorder.record(owner(), CRASHING)
        recorder.record(owner(), SERVING)
        recorder.record(owner(), Notice("Warning", "CrashLoop", "DegradedTrue", "for another reason"))
        recorder.record(owner("other"), CRASHING)
        await recorder.flush(2)
    assert sorted(api.kept()) == [("Normal", "AllReplicasReady", 1), *[("Warning", "CrashLoop", 1)] * 3]


async def test_a_series_whose_event_was_deleted_begins_anew() -> None:
    async with recording(Clock()) as (recorder, api):
        recorder.record(owner(), CRASHING)
        await recorder.flush(2)
        api.events.clear()
        recorder.record(owner(), CRASHING)
        await recorder.flush(2)
    assert api.kept() == [("Warning", "CrashLoop", 1)]


async def test_an_object_has_a_burst_of_25_then_one_each_five_minutes_and_others_do_not_suffer() -> None:
    clock, before = Clock(), dropped()
    async with recording(clock) as (recorder, api):
        for number in range(40):
            recorder.record(owner(), Notice("Normal", "Caching", "ReconcilingTrue", f"number {number}"))
        await recorder.flush(2)
        assert len(api.events) == events.BURST == 25
        assert dropped() - before == 15
        clock.seconds += events.REFILL_SECONDS
        for number in range(40, 45):
            recorder.record(owner(), Notice("Normal", "Caching", "ReconcilingTrue", f"number {number}"))
        recorder.record(owner("other"), SERVING)
        await recorder.flush(2)
    assert [event["note"] for event in api.events.values()][25:] == ["number 40", "every replica answers"]


async def test_recording_waits_for_nothing_and_drops_what_does_not_fit() -> None:
    before = dropped()
    async with recording(Clock()) as (recorder, api):
        api.answers.clear()
        writing = asyncio.create_task(recorder.run())
        began = asyncio.get_running_loop().time()
        for number in range(400):
            recorder.record(owner(f"llama-{number}"), SERVING)
        assert asyncio.get_running_loop().time() - began < 0.5
        assert dropped() - before == 400 - events.WAITING
        writing.cancel()
        await asyncio.wait([writing])
        await recorder.flush(0.1)
        api.answers.set()


async def test_an_event_that_is_refused_is_counted_and_the_next_one_is_written() -> None:
    before = dropped()
    async with recording(Clock()) as (recorder, api):
        writing = asyncio.create_task(recorder.run())
        api.refuses = True
        recorder.record(owner(), CRASHING)
        async with asyncio.timeout(5):
            while dropped() == before:  # noqa: ASYNC110 - a counter sets no event
                await asyncio.sleep(0.01)
            api.refuses = False
            recorder.record(owner(), SERVING)
            while not api.events:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        writing.cancel()
        await asyncio.wait([writing])
    assert api.kept() == [("Normal", "AllReplicasReady", 1)]
