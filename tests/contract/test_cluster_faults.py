"""The watches and the client against an API server that misbehaves, scripted answer by answer on loopback."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from prometheus_client import REGISTRY

from llmservice_operator.cluster import client as client_module
from llmservice_operator.cluster import errors
from llmservice_operator.cluster.apply import REJECTED_RETRY_SECONDS, Applier
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.confirmation import Confirmation
from llmservice_operator.cluster.informer import Informer
from llmservice_operator.cluster.interface import OutdatedError, OwnerGoneError, RefusedError
from llmservice_operator.cluster.resources import LLMSERVICES, SERVICES, Key
from llmservice_operator.cluster.store import Entry, Listener, Store

Manifest = dict[str, Any]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def service(name: str, version: int) -> Manifest:
    meta = {"namespace": "default", "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta}


def listing(version: int, *items: Manifest, more: str = "") -> Answer:
    """Answer a list, or a page of one that goes on."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert "watch" not in request.query
        metadata = {"resourceVersion": str(version), **({"continue": more} if more else {})}
        return web.json_response({"metadata": metadata, "items": list(items)})

    return answer


def status(code: int, headers: dict[str, str] | None = None) -> Answer:
    """Answer with an error."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "Status", "code": code, "message": "no"}, status=code, headers=headers)

    return answer


def stream(*events: Manifest, then: str = "end") -> Answer:
    """Answer a watch with events; then end, or say nothing more (`silence`)."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.query["watch"] == "true"
        response = web.StreamResponse()
        await response.prepare(request)
        for event in events:
            await response.write(json.dumps(event).encode() + b"\n")
        if then == "silence":
            await asyncio.sleep(30)
        return response

    return answer


def event(kind: str, manifest: Manifest) -> Manifest:
    return {"type": kind, "object": manifest}


def bookmark(version: int) -> Manifest:
    return event("BOOKMARK", service("", version))


GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
BROKEN = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcd is busy"}}


@asynccontextmanager
async def scripted(*answers: Answer) -> AsyncIterator[tuple[Client, list[str]]]:
    """Serve the answers one after another, then silence; yield a client and the resource versions asked for."""
    asked: list[str] = []
    script = iter(answers)

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.append(request.query.get("resourceVersion", request.query.get("continue", "list")))
        answer = next(script, stream(then="silence"))
        return await answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    client = Client(configuration)
    try:
        yield client, asked
    finally:
        await client.close()
        await runner.cleanup()


@asynccontextmanager
async def informed(
    client: Client, waits: list[float] | None = None, listener: Listener = lambda *_: None
) -> AsyncIterator[tuple[Store, Informer]]:
    """Run an informer of Services that does not wait before it tries again, but says how long it would have."""
    store = Store(listener)

    async def at_once(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)
        await asyncio.sleep(0)

    informer = Informer(client, store, SERVICES, sleep=at_once)
    running = asyncio.create_task(informer.run())
    try:
        yield store, informer
    finally:
        running.cancel()
        await asyncio.wait([running])


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110 - the store sets no event
            await asyncio.sleep(0.005)


def names(store: Store) -> list[str]:
    return sorted(entry.manifest["metadata"]["name"] for entry in store.all(SERVICES))


async def test_a_deletion_during_a_gap_is_seen_at_the_relist() -> None:
    first, again = listing(10, service("a", 1), service("b", 2)), listing(20, service("b", 2))
    async with scripted(first, stream(GONE), again) as (client, asked), informed(client) as (store, informer):
        await until(lambda: names(store) == ["b"])
        assert asked[:3] == ["list", "10", "list"]
        await until(lambda: informer.is_synced)


async def test_a_gone_version_unsyncs_until_the_list_is_back() -> None:
    async with (
        scripted(listing(10), status(410), status(500), listing(30)) as (client, asked),
        informed(client) as (_, informer),
    ):
        await until(lambda: len(asked) >= 4 and informer.is_synced)
        assert asked[:4] == ["list", "10", "list", "list"]


async def test_a_watch_that_broke_begins_where_the_last_one_began() -> None:
    events = [event("ADDED", service("a", 11)), bookmark(15), BROKEN]
    async with (
        scripted(listing(10), stream(*events), status(503), stream(event("ADDED", service("b", 16)))) as (
            client,
            asked,
        ),
        informed(client) as (store, _),
    ):
        await until(lambda: names(store) == ["a", "b"])
        assert asked[:4] == ["list", "10", "10", "10"]


async def test_each_watch_tells_again_what_the_one_before_was_to_tell() -> None:
    watches = [stream(bookmark(20)), stream(bookmark(20)), stream(bookmark(30)), stream(bookmark(30))]
    async with scripted(listing(10), *watches) as (client, asked), informed(client):
        await until(lambda: len(asked) >= 6)
        assert asked[:6] == ["list", "10", "10", "20", "20", "30"]


def late_events() -> float:
    return REGISTRY.get_sample_value("llmservice_operator_watch_late_events_total", {"kind": "Service"}) or 0.0


@pytest.mark.parametrize(
    ("lost", "left"),
    [
        pytest.param(event("ADDED", service("b", 12)), ["a", "b"], id="a new one"),
        pytest.param(event("DELETED", service("a", 12)), [], id="a deletion"),
    ],
)
async def test_an_event_lost_in_a_stream_that_goes_on_is_made_up_for(lost: Manifest, left: list[str]) -> None:
    first, again = stream(event("MODIFIED", service("a", 11)), bookmark(15)), stream(lost, bookmark(15))
    before = late_events()
    async with scripted(listing(10, service("a", 1)), first, again) as (client, asked), informed(client) as (store, _):
        await until(lambda: len(asked) >= 4)
        assert names(store) == left
        assert late_events() == before + 1


async def test_a_repetition_is_no_news() -> None:
    first, second = child(11), {**child(12), "spec": {}}
    told = [event("ADDED", first), event("MODIFIED", second), event("DELETED", {**second, **child(13)})]
    heard: list[Key] = []
    async with (
        scripted(listing(10), *[stream(*told, bookmark(15))] * 2) as (client, asked),
        informed(client, listener=lambda key, *_: heard.append(key)),
    ):
        await until(lambda: len(asked) >= 4)
        assert len(heard) == len(told)


async def test_without_a_repetition_a_watch_goes_on_where_the_last_one_ended() -> None:
    last = stream(event("ADDED", service("b", 16)))
    async with (
        scripted(listing(10), stream(bookmark(15)), status(410), last) as (client, asked),
        informed(client) as (store, informer),
    ):
        await until(lambda: names(store) == ["b"])
        assert asked[:4] == ["list", "10", "10", "15"]
        assert informer.is_synced


async def test_a_silent_watch_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SILENCE_SECONDS", 0.1)
    async with (
        scripted(listing(10), stream(then="silence"), stream(event("ADDED", service("a", 11)))) as (client, _),
        informed(client) as (store, _),
    ):
        await until(lambda: names(store) == ["a"])


@pytest.mark.parametrize(
    ("answers", "requests_at_once"),
    [
        pytest.param([status(410)] * 50, 1, id="no list is to be had"),
        pytest.param([listing(10), status(410)] * 50, 2, id="no list can be watched on from"),
        pytest.param([listing(10), *[stream()] * 50], 1, id="every watch ends at once"),
        pytest.param(
            [listing(10), stream(bookmark(15)), *[stream(bookmark(15))] * 50], 1, id="every watch only repeats"
        ),
    ],
)
async def test_what_never_works_is_tried_less_and_less(answers: list[Answer], requests_at_once: int) -> None:
    waits: list[float] = []
    async with scripted(*answers) as (client, asked), informed(client, waits):
        await until(lambda: len(waits) >= 7)
        assert len(asked) <= requests_at_once * (len(waits) + 1) + 1
    assert waits[0] < 0.5
    assert waits[6] > 5


async def test_a_watch_that_ends_after_an_event_is_started_anew_soon() -> None:
    waits: list[float] = []
    watches = [stream(event("ADDED", service("a", version))) for version in range(11, 18)]
    async with scripted(listing(10), *watches) as (client, _), informed(client, waits):
        await until(lambda: len(waits) >= 7)
    assert max(waits) < 0.5


async def test_a_watch_takes_an_object_as_large_as_the_server_keeps() -> None:
    large = service("large", 11)
    large["data"] = "x" * 1_500_000
    async with scripted(listing(10), stream(event("ADDED", large))) as (client, _), informed(client) as (store, _):
        await until(lambda: names(store) == ["large"])


async def test_a_long_list_comes_in_pages() -> None:
    pages = (listing(10, service("a", 1), more="token"), listing(10, service("b", 2)))
    async with scripted(*pages) as (client, asked), informed(client) as (store, _):
        await until(lambda: names(store) == ["a", "b"])
        assert asked[:2] == ["list", "token"]


async def test_retry_after_holds_back_the_next_request() -> None:
    async with scripted(status(429, {"Retry-After": "1"}), listing(10)) as (client, _):
        with pytest.raises(errors.BusyError) as busy:
            await client.list_page(SERVICES, None, {})
        assert busy.value.retry_after_seconds == 1
        started = time.monotonic()
        await client.list_page(SERVICES, None, {})
        assert time.monotonic() - started >= 0.9


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (403, errors.ForbiddenError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (410, errors.GoneError),
        (422, errors.InvalidError),
        (500, errors.BusyError),
        (503, errors.BusyError),
    ],
)
async def test_each_status_is_an_error_of_its_own(code: int, kind: type[errors.ApiError]) -> None:
    async with scripted(status(code)) as (client, _):
        with pytest.raises(kind):
            await client.get(SERVICES, "default", "a")


async def test_an_unreachable_server_is_busy() -> None:
    async with scripted() as (client, _):
        pass
    with pytest.raises(errors.BusyError):
        await client.get(SERVICES, "default", "a")
    await client.close()


OWNER: Manifest = {
    "kind": "LLMService",
    "metadata": {"namespace": "default", "name": "llama", "uid": "u", "resourceVersion": "5"},
}


async def refusing(request: web.Request) -> web.StreamResponse:
    """Know the LLMService and nothing else, and refuse every write."""
    if request.method == "PATCH":
        return await status(422)(request)
    return web.json_response(OWNER) if "llmservices" in request.path else await status(404)(request)


async def test_what_the_server_refuses_is_tried_again_soon_and_then_less_and_less() -> None:
    now, waits = 0.0, []
    async with scripted(*[refusing] * 40) as (client, _):
        store = Store(lambda *_: None)
        applier = Applier(client, store, Confirmation(client, store), clock=lambda: now)
        for _ in range(10):
            with pytest.raises(RefusedError) as refused:
                await applier.apply(OWNER, service("llama", 0))
            waits.append(refused.value.retry_after_seconds)
            now += waits[-1]
    assert waits[:3] == [5, 10, 20]
    assert waits[-1] == REJECTED_RETRY_SECONDS


async def test_a_refusal_is_repeated_without_a_request_until_it_is_time() -> None:
    async with scripted(*[refusing] * 40) as (client, asked):
        store = Store(lambda *_: None)
        applier = Applier(client, store, Confirmation(client, store), clock=lambda: 0.0)
        for _ in range(3):
            with pytest.raises(RefusedError):
                await applier.apply(OWNER, service("llama", 0))
        assert len(asked) == 3


async def ending(request: web.Request) -> web.StreamResponse:
    """Know the LLMService and nothing else, in a namespace that is being deleted."""
    if request.method != "PATCH":
        return await refusing(request)
    message = 'services "llama" is forbidden: unable to create new content in namespace default because it is being '
    return web.json_response({"kind": "Status", "code": 403, "message": message + "terminated"}, status=403)


async def test_f23_in_a_namespace_that_is_being_deleted_nothing_is_tried_twice() -> None:
    async with scripted(*[ending] * 40) as (client, asked):
        store = Store(lambda *_: None)
        applier = Applier(client, store, Confirmation(client, store))
        for _ in range(3):
            with pytest.raises(OwnerGoneError):
                await applier.apply(OWNER, service("llama", 0))
        assert len(asked) == 3


def child(version: int) -> Manifest:
    """Return a Service of the LLMService, as it was applied."""
    manifest = service("llama", version)
    owner = {"kind": "LLMService", "name": "llama", "uid": OWNER["metadata"]["uid"], "controller": True}
    manifest["metadata"] |= {"labels": {"app.kubernetes.io/instance": "llama"}, "ownerReferences": [owner]}
    return manifest


async def test_nothing_is_written_from_a_list_that_is_not_so_any_more() -> None:
    written: list[str] = []

    async def live(request: web.Request) -> web.StreamResponse:
        """Have a newer Service than was listed, and no other child."""
        if request.method == "PATCH":
            written.append(request.path)
            return web.json_response(child(10))
        if request.path.endswith("/llmservices/llama"):
            return web.json_response(OWNER)
        return await listing(9, *([child(8)] if request.path.endswith("/services") else []))(request)

    async with scripted(*[live] * 40) as (client, asked):
        store = Store(lambda *_: None)
        confirmation = Confirmation(client, store)
        applier = Applier(client, store, confirmation)
        store.replace(LLMSERVICES, None, [Entry.of(OWNER)], 5)
        store.replace(SERVICES, None, [Entry.of(child(4))], 5)
        confirmation.doubt()
        with pytest.raises(OutdatedError):
            await applier.apply(OWNER, {**service("llama", 0), "spec": {"type": "ClusterIP"}})
        assert written == []
        seen = store.get(SERVICES, "default", "llama")
        assert seen is not None
        assert seen.resource_version == 8
        looked = len(asked)
        await applier.apply(OWNER, {**service("llama", 0), "spec": {"type": "ClusterIP"}})
        assert (len(written), len(asked)) == (1, looked + 1)


async def test_an_llmservice_that_a_watch_told_of_is_not_looked_at_before_a_write() -> None:
    async with scripted(lambda _: _answered(child(10))) as (client, asked):
        store = Store(lambda *_: None)
        confirmation = Confirmation(client, store)
        confirmation.doubt()
        store.put(LLMSERVICES, Entry.of(OWNER))
        store.put(SERVICES, Entry.of(child(4)))
        await Applier(client, store, confirmation).apply(OWNER, service("llama", 0))
        assert len(asked) == 1


async def _answered(manifest: Manifest) -> web.StreamResponse:
    return web.json_response(manifest)
