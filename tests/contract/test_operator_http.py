"""What the operator answers to probes and to Prometheus, with real watches of an API server that is scripted."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import pytest
from aiohttp import ClientSession, web
from kubernetes.aio.client.configuration import Configuration
from prometheus_client.parser import text_string_to_metric_families

from llmservice_operator import http
from llmservice_operator.cluster import informer
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.election import Alone, Leadership
from llmservice_operator.cluster.live import LiveCluster
from llmservice_operator.cluster.resources import CHILDREN, LLMSERVICES, Key
from llmservice_operator.work_queue import WorkQueue
from llmservice_operator.workers import Reconcile, Workers
from tests.support.alert_rules import exported_metrics, metrics_asked_for

T = TypeVar("T")
Manifest = dict[str, Any]
Samples = dict[str, list[tuple[dict[str, str], float]]]

KEY: Final = Key("default", "llama")
KINDS: Final = [
    "ConfigMap",
    "ControllerRevision",
    "Deployment",
    "HorizontalPodAutoscaler",
    "Job",
    "LLMService",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "Pod",
    "PodDisruptionBudget",
    "Service",
    "ServiceAccount",
]


class ApiServer:
    """Lists what it is given, kind by kind, and then watches in silence."""

    def __init__(self) -> None:
        self.items: dict[str, list[Manifest]] = {}
        """Objects by the plural of their kind."""
        self.withheld: set[str] = set()
        """Plurals that are answered with 503."""
        self.watch: asyncio.Queue[Manifest] = asyncio.Queue()
        """Events about LLMServices."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        plural = request.path.rsplit("/", 1)[1]
        if plural in self.withheld:
            return web.json_response({"kind": "Status", "code": 503, "message": "not now"}, status=503)
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "10"}, "items": self.items.get(plural, [])})
        response = web.StreamResponse()
        await response.prepare(request)
        while plural == "llmservices":
            await response.write(json.dumps(await self.watch.get()).encode() + b"\n")
        await asyncio.Event().wait()
        return response


class Operator:
    """The parts of an operator that its web server speaks for, and the web server."""

    def __init__(self, cluster: LiveCluster, queue: WorkQueue[Key], http: ClientSession):
        self.cluster = cluster
        self.queue = queue
        self._http = http

    async def get(self, path: str) -> tuple[int, str]:
        async with self._http.get(path) as response:
            return response.status, await response.text()

    async def until(self, path: str, status: int, text: str | None = None) -> str:
        """Return the text of the first answer with `status`, and with this text where one is given."""

        async def answered() -> str | None:
            answer = await self.get(path)
            return answer[1] if answer[0] == status and text in (None, answer[1]) else None

        return await eventually(answered)

    async def metrics(self) -> Samples:
        """Return the samples of /metrics by name."""
        found: Samples = {}
        _, text = await self.get("/metrics")
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found


async def eventually(check: Callable[[], Awaitable[T | None]]) -> T:
    """Return the first answer of `check` that is not None."""
    async with asyncio.timeout(5):
        while (found := await check()) is None:  # noqa: ASYNC110 - the program under test sets no event
            await asyncio.sleep(0.01)
    return found


def llmservice(name: str, **conditions: str) -> Manifest:
    """Return an LLMService with conditions, each given as status/reason."""
    status_and_reason = {kind: said.split("/") for kind, said in conditions.items()}
    return {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {
            "namespace": "default",
            "name": name,
            "uid": f"uid of {name}",
            "resourceVersion": "5",
            "generation": 1,
        },
        "status": {
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": ""}
                for kind, (status, reason) in status_and_reason.items()
            ]
        },
    }


async def nothing_to_do(_: Key) -> None:
    """Reconcile."""


@asynccontextmanager
async def web_server(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def operating(
    api: ApiServer,
    reconcile: Reconcile = nothing_to_do,
    timeout_seconds: float = 30,
    *,
    watches: bool = True,
    namespaces: Sequence[str] = (),
    leadership: Leadership | None = None,
) -> AsyncIterator[Operator]:
    """Run the watches, the workers and the web server while the body does."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    async with contextlib.AsyncExitStack() as stack:
        configuration = Configuration()
        configuration.host = await stack.enter_async_context(web_server(app))
        client = Client(configuration)
        stack.push_async_callback(client.close)
        queue: WorkQueue[Key] = WorkQueue()
        cluster = LiveCluster(client, queue.add, namespaces)
        workers = Workers(queue, reconcile, lambda *_: None, count=1, timeout_seconds=timeout_seconds)
        health = http.Health(cluster, workers, leadership or Alone())
        stack.callback(queue.close)
        running = [asyncio.create_task(task) for task in (workers.run(), health.run())]
        running += [asyncio.create_task(cluster.run())] if watches else []
        stack.push_async_callback(asyncio.wait, running)
        for task in running:
            stack.callback(task.cancel)
        base = await stack.enter_async_context(web_server(http.application(health)))
        session = await stack.enter_async_context(ClientSession(base))
        yield Operator(cluster, queue, session)


async def test_readyz_names_the_kinds_that_were_never_listed() -> None:
    async with operating(ApiServer(), watches=False) as operator:
        status, text = await operator.get("/readyz")
    assert status == 503
    assert text.splitlines() == [f"{kind} not listed yet" for kind in KINDS]


async def test_readyz_waits_for_the_last_kind_and_stays_through_an_outage() -> None:
    api = ApiServer()
    api.withheld = {"jobs"}
    async with operating(api) as operator:
        await operator.until("/readyz", 503, "Job not listed yet")
        api.withheld = set()
        await operator.until("/readyz", 200)
        api.withheld = {"jobs", "llmservices"}
        assert await operator.get("/readyz") == (200, "ok")


async def test_readyz_says_what_keeps_a_replica_from_leading() -> None:
    barred = Alone()
    async with operating(ApiServer(), leadership=barred) as operator:
        await operator.until("/readyz", 200)
        barred.trouble = "Grant the right to the Lease"
        assert await operator.get("/readyz") == (503, barred.trouble)


async def test_healthz_is_well_while_the_api_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "WATCH_IDLE_LIMIT_SECONDS", 1.0)
    monkeypatch.setattr(informer, "LONGEST_BACKOFF_SECONDS", 0.2)
    api = ApiServer()
    api.withheld = {resource.plural for resource in (*CHILDREN, LLMSERVICES)}
    async with operating(api) as operator:
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            assert await operator.get("/healthz") == (200, "ok")
            await asyncio.sleep(0.05)


async def test_healthz_names_a_watch_that_does_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "WATCH_IDLE_LIMIT_SECONDS", 1.0)
    async with operating(ApiServer(), watches=False) as operator:
        assert await operator.get("/healthz") == (200, "ok")
        text = await operator.until("/healthz", 503)
    assert sorted(text.splitlines()) == [f"watch of {kind} is dead" for kind in KINDS]


async def test_healthz_tells_of_a_worker_that_no_cancellation_reaches() -> None:
    released = asyncio.Event()

    async def deaf(_: Key) -> None:
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    async with operating(ApiServer(), deaf, timeout_seconds=0.05) as operator:
        operator.queue.add(KEY)
        assert await operator.until("/healthz", 503) == "a worker does not end"
        released.set()
        assert await operator.until("/healthz", 200) == "ok"


async def test_healthz_tells_of_an_event_loop_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LAG_PERIOD_SECONDS", 0.5)
    monkeypatch.setattr(http, "LAG_LIMIT_SECONDS", 0.5)
    async with operating(ApiServer()) as operator:
        assert await operator.get("/healthz") == (200, "ok")
        await asyncio.sleep(0.05)
        time.sleep(1.5)  # noqa: ASYNC251 - the fault that is looked for
        assert (await operator.until("/healthz", 503)).startswith("event loop is ")
        assert await operator.until("/healthz", 200) == "ok"


async def test_metrics_count_llmservices_by_condition_until_they_are_gone() -> None:
    api = ApiServer()
    manifest = llmservice("llama", Ready="True/AllReplicasReady")
    api.items["llmservices"] = [manifest]
    async with operating(api) as operator:
        await operator.until("/readyz", 200)
        counted = (await operator.metrics())["llmservice_operator_llmservices"]
        assert counted == [({"condition": "Ready", "status": "True"}, 1.0)]
        last_seen = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "11"}}
        gone = {"type": "DELETED", "object": last_seen}
        await api.watch.put(gone)

        async def is_forgotten() -> bool | None:
            return "llmservice_operator_llmservices" not in await operator.metrics() or None

        assert await eventually(is_forgotten)


async def test_metrics_name_an_llmservice_for_what_is_not_as_it_should_be() -> None:
    api = ApiServer()
    api.items["llmservices"] = [
        llmservice("well", Ready="True/AllReplicasReady", Serving="True/EndpointsReady", Degraded="False/AsExpected"),
        llmservice("back", Ready="False/RolledBack", Serving="True/EndpointsReady", Degraded="True/RolledBack"),
        llmservice("held", Ready="True/Suspended", Serving="False/Suspended", Reconciling="True/Scaling"),
        llmservice("young", Ready="Unknown/NotYetObserved"),
    ]
    async with operating(api) as operator:
        await operator.until("/readyz", 200)
        found = await operator.metrics()
    abnormal = {tuple(labels.values()): value for labels, value in found["llmservice_operator_abnormal_conditions"]}
    assert abnormal == {
        ("Degraded", "back", "default", "RolledBack"): 1.0,
        ("Ready", "back", "default", "RolledBack"): 1.0,
        ("Ready", "young", "default", "NotYetObserved"): 1.0,
    }
    serving = {labels["llmservice"]: value for labels, value in found["llmservice_operator_serving"]}
    assert serving == {"well": 1.0, "back": 1.0, "held": 0.0}


async def test_metrics_show_the_oldest_watch_of_a_kind() -> None:
    async with operating(ApiServer(), watches=False, namespaces=("one", "two")) as operator:
        for watch in operator.cluster.informers[: len(KINDS)]:
            watch._heard_at -= 100.0
        found = await operator.metrics()
    assert min(age for _, age in found["llmservice_operator_watch_age_seconds"]) >= 100.0


async def test_metrics_tell_how_long_a_worker_has_been_at_it() -> None:
    released = asyncio.Event()

    async def slow(_: Key) -> None:
        await released.wait()

    async with operating(ApiServer(), slow) as operator:
        operator.queue.add(KEY)

        async def at_work() -> Samples | None:
            found = await operator.metrics()
            return found if _value(found, "workqueue_unfinished_work_seconds", {"name": "llmservice"}) > 0 else None

        found = await eventually(at_work)
        assert _value(found, "workqueue_longest_running_processor_seconds", {"name": "llmservice"}) > 0
        assert _value(found, "controller_runtime_active_workers", {"controller": "llmservice"}) == 1
        assert _value(found, "controller_runtime_max_concurrent_reconciles", {"controller": "llmservice"}) == 1
        released.set()


async def test_metrics_have_what_the_alerts_ask_of_the_operator() -> None:
    async with operating(ApiServer()) as operator:
        _, text = await operator.get("/metrics")
    assert metrics_asked_for(of_servers=False) <= exported_metrics(text)


async def test_what_alerts_count_is_there_before_it_has_happened() -> None:
    async with operating(ApiServer()) as operator:
        found = await operator.metrics()
    assert "controller_runtime_reconcile_errors_total" in found
    assert {labels["result"] for labels, _ in found["controller_runtime_reconcile_total"]} >= {"success", "error"}


async def test_metrics_tell_of_watches_queue_and_reconciles() -> None:
    async with operating(ApiServer()) as operator:
        await operator.until("/readyz", 200)
        before = _value(await operator.metrics(), "controller_runtime_reconcile_total", {"result": "success"})
        operator.queue.add(KEY)

        async def counted() -> Samples | None:
            found = await operator.metrics()
            after = _value(found, "controller_runtime_reconcile_total", {"result": "success"})
            return found if after == before + 1 else None

        found = await eventually(counted)
    ages = {labels["kind"]: age for labels, age in found["llmservice_operator_watch_age_seconds"]}
    assert sorted(ages) == KINDS
    assert all(0 <= age < 5 for age in ages.values())
    assert _value(found, "workqueue_depth", {"name": "llmservice"}) == 0
    assert _value(found, "controller_runtime_active_workers", {"controller": "llmservice"}) == 0
    assert _value(found, "controller_runtime_reconcile_time_seconds_count", {"controller": "llmservice"}) >= 1
    assert _value(
        found, "llmservice_operator_api_request_duration_seconds_count", {"verb": "GET", "code": "200"}
    ) >= len(KINDS)
    assert _value(found, "llmservice_operator_event_loop_lag_seconds", {}) < 5


def _value(samples: Samples, name: str, labels: dict[str, str]) -> float:
    """Return the one sample of `name` with these labels, or 0 where none was counted yet."""
    found = [value for of, value in samples.get(name, []) if labels.items() <= of.items()]
    return found[0] if found else 0.0
