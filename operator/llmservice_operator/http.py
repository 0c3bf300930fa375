"""What the operator answers over HTTP: is it alive, has it seen the whole cluster, and its metrics.

Readiness does not depend on any LLMService, or a rollout of the operator itself would hang on a user's mistake. Nor on
who leads; but a replica that may not stand for election is of no use, and its rollout must not end the one that leads.
"""

import asyncio
import time
from collections import Counter
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from llmservice_operator import metrics
from llmservice_operator.cluster.election import Leadership
from llmservice_operator.cluster.live import LiveCluster
from llmservice_operator.conditions import ConditionType, is_abnormal
from llmservice_operator.workers import Workers

LAG_PERIOD_SECONDS: Final = 1.0
LAG_LIMIT_SECONDS: Final = 10.0
WATCH_IDLE_LIMIT_SECONDS: Final = 300.0
"""An informer waits at most for the silence limit and the longest back-off; one that is idle for longer is dead."""
ACCESS_LOG: Final = None
"""Probes come every few seconds and say nothing."""


class Health:
    """What the probes ask for."""

    def __init__(self, cluster: LiveCluster, workers: Workers, leadership: Leadership):
        self._cluster = cluster
        self._workers = workers
        self._leadership = leadership
        self._lag_seconds = 0.0
        self._ticked_at = time.monotonic()

    async def run(self) -> None:
        """Measure how late the event loop runs, until cancelled."""
        while True:
            self._ticked_at = time.monotonic()
            await asyncio.sleep(LAG_PERIOD_SECONDS)
            self._lag_seconds = max(0.0, time.monotonic() - self._ticked_at - LAG_PERIOD_SECONDS)
            metrics.LOOP_LAG_SECONDS.set(self._lag_seconds)

    def ailments(self) -> list[str]:
        """Return why the process should be restarted; empty when it is well."""
        found = []
        if self._lag_seconds > LAG_LIMIT_SECONDS:
            found.append(f"event loop is {self._lag_seconds:.0f} s late")
        if self._workers.is_stuck:
            found.append("a worker does not end")
        found += [
            f"watch of {informer.kind} is dead"
            for informer in self._cluster.informers
            if informer.idle_seconds > WATCH_IDLE_LIMIT_SECONDS
        ]
        return found

    def hindrances(self) -> list[str]:
        """Return why this replica could not reconcile if it had to: kinds that were never listed, no right to lead."""
        unlisted = {informer.kind for informer in self._cluster.informers if not informer.has_listed.is_set()}
        trouble = self._leadership.trouble
        return [*(f"{kind} not listed yet" for kind in sorted(unlisted)), *([trouble] if trouble else [])]

    def measure(self) -> None:
        """Set the gauges that are read off, not counted."""
        self._measure_watches()
        self._workers.measure()
        self._measure_llmservices()

    def _measure_watches(self) -> None:
        """Show the oldest watch of each kind: there is one for each watched namespace."""
        ages: dict[str, float] = {}
        for informer in self._cluster.informers:
            ages[informer.kind] = max(informer.silent_seconds, ages.get(informer.kind, 0.0))
        for kind, age in ages.items():
            metrics.WATCH_AGE_SECONDS.labels(kind).set(age)

    def _measure_llmservices(self) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        for gauge in (metrics.LLMSERVICES, metrics.SERVING, metrics.ABNORMAL):
            gauge.clear()
        for key in self._cluster.known_keys():
            for condition in ((self._cluster.llmservice(key) or {}).get("status") or {}).get("conditions", ()):
                counts[condition["type"], condition["status"]] += 1
                if condition["type"] == ConditionType.SERVING:
                    metrics.SERVING.labels(*key).set(condition["status"] == "True")
                if is_abnormal(condition):
                    metrics.ABNORMAL.labels(*key, condition["type"], condition["reason"]).set(1)
        for (condition_type, status), count in counts.items():
            metrics.LLMSERVICES.labels(condition_type, status).set(count)


def application(health: Health) -> web.Application:
    """Return the web application with its three routes."""

    async def healthz(request: web.Request) -> web.Response:
        return _verdict(health.ailments())

    async def readyz(request: web.Request) -> web.Response:
        return _verdict(health.hindrances())

    async def metricsz(request: web.Request) -> web.Response:
        health.measure()
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metricsz)])
    return app


def _verdict(problems: list[str]) -> web.Response:
    return web.Response(text="\n".join(problems) or "ok", status=503 if problems else 200)
