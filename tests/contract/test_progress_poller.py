"""Pods are asked how far they are: which, how often, and what becomes of every answer; real HTTP on loopback."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from aiohttp import web

from llmservice_operator import progress, settings
from llmservice_operator.cluster.resources import Key
from llmservice_operator.progress import ProgressPoller
from llmservice_operator.reconcile import reconcile
from tests.support.fake_cluster import FakeCluster
from tests.support.stage import llmservice

Manifest = dict[str, Any]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

KEY: Final = Key("default", "llama")
NOW: Final = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
SETTINGS: Final = settings.parse({"images": {"server": "server:1"}, "defaultProfile": "cpu", "profiles": {"cpu": {}}})
OURS, THEIRS = "127.0.0.1", "127.0.0.2"
HALF: Final = {"schema": 1, "phase": "Downloading", "progress": {"done": 5, "total": 10, "unit": "bytes"}}


class Pods:
    """Every pod of the test: they listen on addresses of loopback and keep who was asked, and when."""

    def __init__(self, answer: Answer):
        self._answer = answer
        self.port = 0
        self.asked: list[tuple[str, str]] = []
        """Address and path of each request."""
        self.asked_at: list[float] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.asked.append((request.transport.get_extra_info("sockname")[0], request.path))
        self.asked_at.append(time.monotonic())
        return await self._answer(request)

    async def asked_times(self, times: int, address: str = OURS) -> None:
        """Wait until the pod at `address` was asked so often; then all but its last answer has been dealt with."""
        while [asked for asked, _ in self.asked].count(address) < times:  # noqa: ASYNC110 - a list sets no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[Pods]:
    pods = Pods(answer)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", pods.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, OURS, 0).start()
    pods.port = runner.addresses[0][1]
    await web.TCPSite(runner, THEIRS, pods.port).start()
    try:
        yield pods
    finally:
        await runner.cleanup()


@asynccontextmanager
async def polling(pods: Pods) -> AsyncIterator[tuple[ProgressPoller, asyncio.Queue[Key]]]:
    """Run a poller; yield it with the keys it says have news."""
    news: asyncio.Queue[Key] = asyncio.Queue()
    poller = ProgressPoller(news.put_nowait, pods.port)
    running = asyncio.create_task(poller.run())
    try:
        async with asyncio.timeout(10):
            yield poller, news
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        await asyncio.wait([running])


def says(report: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Answer with this: bytes as they are, anything else as JSON."""
    body = report if isinstance(report, bytes) else json.dumps(report).encode()

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return answer


def hangs() -> Answer:
    """Accept the request and say nothing."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    return answer


def pod(name: str, address: str, job: Manifest | None = None) -> Manifest:
    """Return a running pod with the labels of a warm-up; a pod of ours is controlled by our Job."""
    labels = {"app.kubernetes.io/instance": "llama", "app.kubernetes.io/component": "warmup"}
    meta: Manifest = {"namespace": "default", "name": name, "labels": labels}
    if job is not None:
        reference = {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"], "controller": True}
        meta["ownerReferences"] = [reference]
    status = {"phase": "Running", "podIP": address}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": status}


async def warming_up() -> FakeCluster:
    """Return a cluster whose LLMService has its warm-up Job."""
    cluster = FakeCluster()
    owner = llmservice("llama")
    cluster.put({**owner, "metadata": {**owner["metadata"], "namespace": "default"}})
    idle = ProgressPoller(lambda _: None)
    for _ in range(2):  # The volume first, then the Job that fills it.
        await reconcile(KEY, cluster, idle, SETTINGS, NOW)
    return cluster


async def test_only_pods_that_our_own_objects_control_are_asked_and_their_progress_is_shown() -> None:
    cluster = await warming_up()
    (job,) = (manifest for (kind, _, _), manifest in cluster.objects.items() if kind == "Job")
    cluster.put(pod("ours", OURS, job))
    cluster.put(pod("theirs", THEIRS))
    async with listening(says(HALF)) as pods, polling(pods) as (poller, news):
        await reconcile(KEY, cluster, poller, SETTINGS, NOW)
        assert await news.get() == KEY
        await reconcile(KEY, cluster, poller, SETTINGS, NOW)
    assert set(pods.asked) == {(OURS, "/internal/v1/state")}
    shown = cluster.llmservice(KEY)
    assert shown is not None
    assert shown["status"]["progress"] == "cache 50%"


async def test_a_pod_that_hangs_does_not_hold_up_a_reconcile() -> None:
    cluster = await warming_up()
    (job,) = (manifest for (kind, _, _), manifest in cluster.objects.items() if kind == "Job")
    cluster.put(pod("ours", OURS, job))
    async with listening(hangs()) as pods, polling(pods) as (poller, _):
        for _ in range(5):
            async with asyncio.timeout(0.5):
                await reconcile(KEY, cluster, poller, SETTINGS, NOW)
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(says(HALF, status=503), id="an error"),
        pytest.param(says(b"", 302, {"Location": f"http://{THEIRS}/elsewhere"}), id="a redirect"),
        pytest.param(says({**HALF, "padding": "x" * progress.ANSWER_BYTES}), id="more than 16 KiB"),
        pytest.param(says(b"[" * progress.ANSWER_BYTES), id="brackets without end"),
        pytest.param(says(gzip.compress(json.dumps(HALF).encode()), 200, {"Content-Encoding": "gzip"}), id="packed"),
        pytest.param(says(b"\xff\xfe"), id="no text"),
        pytest.param(says([HALF]), id="no object"),
        pytest.param(says({**HALF, "schema": 2}), id="another schema"),
    ],
)
async def test_an_answer_that_is_not_a_report_is_dropped_and_the_next_pod_is_heard(
    monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setattr(progress, "PERIOD_SECONDS", 0.01)

    async def good_from_theirs(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        is_theirs = request.transport.get_extra_info("sockname")[0] == THEIRS
        return await (says(HALF) if is_theirs else answer)(request)

    async with listening(good_from_theirs) as pods, polling(pods) as (poller, news):
        poller.watch(KEY, [pod("bad", OURS)])
        poller.watch(Key("default", "other"), [pod("good", THEIRS)])
        assert await news.get() == Key("default", "other")
        await pods.asked_times(2)
        assert poller.reports(KEY) == {}
        assert poller.reports(Key("default", "other")) == {"good": HALF}
    assert (THEIRS, "/elsewhere") not in pods.asked


async def test_a_pod_that_hangs_is_given_two_seconds_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PERIOD_SECONDS", 0.0)

    async def first_hangs(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        is_theirs = request.transport.get_extra_info("sockname")[0] == THEIRS
        return await (says(HALF) if is_theirs else hangs())(request)

    async with listening(first_hangs) as pods, polling(pods) as (poller, news):
        poller.watch(KEY, [pod("hangs", OURS)])
        poller.watch(Key("default", "other"), [pod("good", THEIRS)])
        began = time.monotonic()
        await news.get()
        assert time.monotonic() - began < progress.TIMEOUT_SECONDS
        await pods.asked_times(2)
        assert 0.9 * progress.TIMEOUT_SECONDS <= time.monotonic() - began <= 2 * progress.TIMEOUT_SECONDS


async def test_a_pod_is_asked_once_a_period_however_often_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress.PERIOD_SECONDS == 5
    monkeypatch.setattr(progress, "PERIOD_SECONDS", 0.2)
    async with listening(says(HALF)) as pods, polling(pods) as (poller, _):
        while len(pods.asked_at) < 4:
            poller.watch(KEY, [pod("ours", OURS)])
            await asyncio.sleep(0.01)
    gaps = [later - earlier for earlier, later in zip(pods.asked_at, pods.asked_at[1:], strict=False)]
    assert min(gaps) >= 0.19


async def test_an_equal_answer_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PERIOD_SECONDS", 0.01)
    async with listening(says(HALF)) as pods, polling(pods) as (poller, news):
        poller.watch(KEY, [pod("ours", OURS)])
        await pods.asked_times(4)
        assert news.qsize() == 1


async def test_nobody_is_asked_once_nobody_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PERIOD_SECONDS", 0.01)
    async with listening(says(HALF)) as pods, polling(pods) as (poller, news):
        poller.watch(KEY, [pod("ours", OURS)])
        await news.get()
        poller.watch(KEY, [])
        assert poller.reports(KEY) == {}
        await asyncio.sleep(0.2)  # One request may have been under way.
        asked = len(pods.asked)
        await asyncio.sleep(0.1)
        assert len(pods.asked) == asked


async def test_what_a_pod_said_goes_with_the_pod() -> None:
    async with listening(says(HALF)) as pods, polling(pods) as (poller, news):
        poller.watch(KEY, [pod("first", OURS)])
        await news.get()
        poller.watch(KEY, [pod("second", OURS)])
        assert poller.reports(KEY) == {}


async def test_a_pod_that_is_not_there_yet_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PERIOD_SECONDS", 0.05)
    async with listening(says(HALF)) as pods, polling(pods) as (poller, news):
        poller.watch(KEY, [pod("ours", "127.0.0.3")])
        await asyncio.sleep(0.1)
        poller.watch(KEY, [pod("ours", OURS)])
        assert await news.get() == KEY
