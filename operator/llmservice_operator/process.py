"""The running operator: watches, queue, workers, kopf and the web server, started and stopped in order."""

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from llmservice_operator import handlers, http, names
from llmservice_operator.cluster import login
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.election import Alone, Election, Leadership
from llmservice_operator.cluster.interface import Notice
from llmservice_operator.cluster.limiter import RateLimiter
from llmservice_operator.cluster.live import LiveCluster
from llmservice_operator.cluster.resources import Key
from llmservice_operator.progress import ProgressPoller
from llmservice_operator.reconcile import reconcile
from llmservice_operator.settings import Settings
from llmservice_operator.work_queue import WorkQueue
from llmservice_operator.workers import Workers

logger = structlog.get_logger(__name__)

RESYNC_SECONDS: Final = 600.0
"""Every LLMService is looked at again this often, from the caches: should a trigger be missing, it is late, not lost.
"""
FLUSH_SECONDS: Final = 1.0


class Operator:
    """One operator process on one API server. `run` returns when cancelled, with everything it started ended."""

    def __init__(
        self,
        settings: Settings,
        kubeconfig: Path | None = None,
        port: int | None = names.OPERATOR_PORT,
        lease_namespace: str | None = None,
    ):
        """Without `lease_namespace` there is no other replica, and no Lease."""
        self._lease_namespace = lease_namespace
        self._settings = settings
        self._kubeconfig = kubeconfig
        self._port = port
        self.queue: WorkQueue[Key] = WorkQueue()
        self.is_ready = asyncio.Event()
        """Set when every kind is listed: the workers run, or will as soon as this replica leads."""

    async def run(self) -> None:
        """Reconcile until cancelled."""
        limits = self._settings.limits
        limiter = RateLimiter(limits.requests_per_second, burst=int(2 * limits.requests_per_second))
        client = Client(await login.load_configuration(self._kubeconfig), self._kubeconfig, limiter)
        # A client of its own: a Lease must not wait behind other requests.
        lease_client = await Client.connect(self._kubeconfig)
        leadership = self._leadership(lease_client)
        client.may_write = lambda: leadership.is_leading
        cluster = LiveCluster(client, self.queue.add, self._settings.watch_namespaces)
        poller = ProgressPoller(self.queue.add)
        workers = self._workers(cluster, poller)
        health = http.Health(cluster, workers, leadership)
        try:
            # At the end events go out while we still lead; then the Lease is given back, and the next replica need not
            # wait for kopf.
            async with (
                self._kopf(),
                _serving(health, self._port),
                _standing(leadership) as election,
                self._flushed(cluster),
                asyncio.TaskGroup() as tasks,
            ):
                running = (cluster.run(), poller.run(), health.run(), _failure_of(election))
                for task in (*running, self._work(cluster, workers, leadership)):
                    tasks.create_task(task)
        finally:
            await client.close()
            await lease_client.close()

    @contextlib.asynccontextmanager
    async def _flushed(self, cluster: LiveCluster) -> AsyncIterator[None]:
        """Take no more work after the body, and write the events that are still queued."""
        try:
            yield
        finally:
            self.queue.close()
            await cluster.flush_events(FLUSH_SECONDS)

    def _leadership(self, client: Client) -> Leadership:
        if self._lease_namespace is None:
            return Alone()
        identity = f"{socket.gethostname()}_{secrets.token_hex(4)}"
        return Election(client, self._lease_namespace, identity)

    def _workers(self, cluster: LiveCluster, poller: ProgressPoller) -> Workers:
        async def reconcile_one(key: Key) -> float | None:
            return await reconcile(key, cluster, poller, self._settings, datetime.now(UTC))

        def complain(key: Key, error: Exception) -> None:
            owner = cluster.llmservice(key)
            if owner is not None:
                message = f"Report this with the operator's log: {type(error).__name__}"
                cluster.record(owner, Notice("Warning", "ReconcileFailed", "Reconcile", message))

        limits = self._settings.limits
        return Workers(
            self.queue,
            reconcile_one,
            complain,
            count=limits.workers,
            timeout_seconds=limits.reconcile_timeout_seconds,
        )

    async def _work(self, cluster: LiveCluster, workers: Workers, leadership: Leadership) -> None:
        """Once the whole cluster was seen, reconcile whenever this replica leads."""
        await cluster.wait_listed()
        logger.info("every kind listed", llmservices=len(cluster.known_keys()))
        self.is_ready.set()
        while True:
            await leadership.gained()
            async with asyncio.TaskGroup() as tasks:
                leading = tasks.create_task(self._lead(cluster, workers))
                await leadership.lost()
                leading.cancel()

    async def _lead(self, cluster: LiveCluster, workers: Workers) -> None:
        """Run the workers, and ask for every LLMService at first and again from time to time."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(workers.run())
            while True:
                for key in cluster.known_keys():
                    self.queue.add(key)
                await asyncio.sleep(RESYNC_SECONDS)

    @contextlib.asynccontextmanager
    async def _kopf(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def added(key: Key) -> None:
            with contextlib.suppress(RuntimeError):  # The loop closes first when the process ends.
                loop.call_soon_threadsafe(self.queue.add, key)

        registry = handlers.registry(added, lambda: login.credentials(self._kubeconfig))
        kopf = handlers.KopfThread(registry, self._settings.watch_namespaces)
        kopf.start()
        try:
            yield
        finally:
            await kopf.stop()


@contextlib.asynccontextmanager
async def _standing(leadership: Leadership) -> AsyncIterator[asyncio.Task[None]]:
    """Stand for election while the body runs."""
    task = asyncio.create_task(leadership.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _failure_of(task: asyncio.Task[None]) -> None:
    """Fail when `task` does, without ending it when this ends."""
    await asyncio.shield(task)


@contextlib.asynccontextmanager
async def _serving(health: http.Health, port: int | None) -> AsyncIterator[None]:
    """Answer probes while the body runs; no port, no server."""
    if port is None:
        yield
        return
    runner = web.AppRunner(http.application(health), access_log=http.ACCESS_LOG, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host=None, port=port).start()
        yield
    finally:
        await runner.cleanup()


async def run_until_signal(operator: Operator) -> None:
    """Run until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(operator.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
