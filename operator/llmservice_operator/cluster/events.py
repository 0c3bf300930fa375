"""Writes events about LLMServices: one object per happening, a series for its repeats, few per object, never in
anybody's way.
"""

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from llmservice_operator import metrics, names
from llmservice_operator.cluster import errors
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.interface import Notice
from llmservice_operator.cluster.resources import EVENTS
from llmservice_operator.conditions import micro_timestamp
from llmservice_operator.manifest import Manifest

logger = structlog.get_logger(__name__)

BURST: Final = 25
REFILL_SECONDS: Final = 300.0
"""As in client-go: an object may have 25 events at once, then one every five minutes."""
SERIES_SECONDS: Final = 600.0
"""How long after the last one an equal event is a repeat of it."""
NOTE_BYTES: Final = 1024
"""What the API server takes; a longer note is cut, not lost."""
WAITING: Final = 256
REMEMBERED: Final = 4096


@dataclass
class _Series:
    """An event that was written, and how often it has happened since."""

    name: str
    count: int
    seen_at: float


@dataclass
class _Bucket:
    tokens: float
    filled_at: float


class EventRecorder:
    """Takes notices without waiting and writes them one after another in `run`."""

    def __init__(self, client: Client, instance: str, clock: Callable[[], float] = time.monotonic):
        self._client = client
        self._instance = instance
        self._clock = clock
        self._waiting: asyncio.Queue[tuple[Manifest, Notice]] = asyncio.Queue(WAITING)
        self._series: OrderedDict[tuple[str, Notice], _Series] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def record(self, owner: Manifest, notice: Notice) -> None:
        """Queue one event about `owner`; drop it when the object had too many or the queue is full."""
        if not self._takes_token(owner["metadata"]["uid"]) or self._waiting.full():
            metrics.EVENTS_DROPPED.inc()
            return
        self._waiting.put_nowait((owner, notice))

    async def run(self) -> None:
        """Write what is queued until cancelled. An event that cannot be written is lost."""
        while True:
            owner, notice = await self._waiting.get()
            try:
                await self._write(owner, notice)
            except errors.ApiError as error:
                metrics.EVENTS_DROPPED.inc()
                logger.info("event lost", reason=notice.reason, status=error.status, error=error.message)

    async def flush(self, timeout_seconds: float) -> None:
        """Write what is still queued after `run` has ended, but not for long: the process is ending."""
        with contextlib.suppress(TimeoutError, errors.ApiError):
            async with asyncio.timeout(timeout_seconds):
                while not self._waiting.empty():
                    await self._write(*self._waiting.get_nowait())

    async def _write(self, owner: Manifest, notice: Notice) -> None:
        meta = owner["metadata"]
        now = micro_timestamp(datetime.now(UTC))
        series = self._series.get((meta["uid"], notice))
        if series is not None and self._clock() - series.seen_at < SERIES_SECONDS:
            # One that somebody deleted meanwhile is written anew.
            with contextlib.suppress(errors.NotFoundError):
                await self._continue(series, meta["namespace"], now)
                return
        event = self._event(owner, notice, now)
        await self._client.create(EVENTS, event)
        self._series[meta["uid"], notice] = _Series(event["metadata"]["name"], 1, self._clock())
        if len(self._series) > REMEMBERED:
            self._series.popitem(last=False)

    async def _continue(self, series: _Series, namespace: str, now: str) -> None:
        patch = {"series": {"count": series.count + 1, "lastObservedTime": now}}
        await self._client.merge(EVENTS, namespace, series.name, patch)
        series.count += 1
        series.seen_at = self._clock()

    def _event(self, owner: Manifest, notice: Notice, now: str) -> Manifest:
        meta = owner["metadata"]
        unique = hashlib.sha256(f"{meta['uid']} {notice} {now}".encode()).hexdigest()[:16]
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{meta['name']}.{unique}", "namespace": meta["namespace"]},
            "eventTime": now,
            "type": notice.type,
            "reason": notice.reason,
            "action": notice.action,
            "note": notice.message.encode()[:NOTE_BYTES].decode(errors="ignore"),
            "reportingController": f"{names.GROUP}/operator",
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            },
        }

    def _takes_token(self, uid: str) -> bool:
        now = self._clock()
        bucket = self._buckets.setdefault(uid, _Bucket(BURST, now))
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.filled_at) / REFILL_SECONDS)
        bucket.filled_at = now
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
