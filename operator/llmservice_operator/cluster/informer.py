"""Keeps the store equal to the API server, one kind in one scope: list, then watch, then watch on.

Written by us because the ways in which this goes wrong are ours to survive: deletions that happened during a gap,
streams that die without a word, resource versions that are too old, an API server that is gone for an hour, events
that are lost in a stream that goes on.

Against the last, each watch begins where the one before began, not where it ended: whatever happens is told twice, by
two streams, and what was lost is made up for within the time that a watch lasts. Where nothing happens, nothing is told
again. A server keeps what happened for longer than a watch lasts; where it does not, the watch goes on from where the
last one ended.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from llmservice_operator import metrics
from llmservice_operator.cluster import errors
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.listing import listed
from llmservice_operator.cluster.resources import Resource
from llmservice_operator.cluster.store import Entry, Store
from llmservice_operator.manifest import Manifest

logger = structlog.get_logger(__name__)

FIRST_BACKOFF_SECONDS: Final = 0.2
LONGEST_BACKOFF_SECONDS: Final = 10.0


class Informer:
    """One list-and-watch. `run` never returns; its owner cancels it."""

    def __init__(
        self,
        client: Client,
        store: Store,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        on_first_list: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        self._client = client
        self._store = store
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._on_first_list = on_first_list
        self._sleep = sleep
        self._heard_at = self._acted_at = time.monotonic()
        self._failures = 0
        self._resource_version: int | None = None
        """Up to where everything was told, were nothing lost."""
        self._repeat_from = 0
        """Up to where everything was told twice."""
        self.has_listed = asyncio.Event()

    @property
    def is_synced(self) -> bool:
        """Whether the store holds a complete list and the watch goes on from it: only then may anything be pruned."""
        return self._resource_version is not None

    @property
    def silent_seconds(self) -> float:
        """How long the API server has said nothing about this kind; a bookmark comes with the end of each watch."""
        return time.monotonic() - self._heard_at

    @property
    def idle_seconds(self) -> float:
        """How long this informer has neither heard nor tried anything: long means stuck, while an outage keeps it
        trying.
        """
        return time.monotonic() - self._acted_at

    @property
    def kind(self) -> str:
        return self._resource.kind

    async def run(self) -> None:
        """List and watch until cancelled, with unbounded retries and jittered back-off."""
        while True:
            began = time.monotonic()
            try:
                await self._list_if_needed()
                await self._watch()
            except errors.GoneError as error:
                self._forget_version()
                await self._back_off(began, error)
            except errors.ApiError as error:
                await self._back_off(began, error)
            else:
                await self._back_off(began, None)
            metrics.WATCH_RESTARTS.labels(self.kind).inc()

    async def _list_if_needed(self) -> None:
        if self._resource_version is not None:
            return
        entries, listed_version = await listed(self._client, self._resource, self._namespace, self._label_selector)
        version = int(listed_version)
        self._store.replace(self._resource, self._namespace, entries, version)
        self._resource_version = self._repeat_from = version
        self._heard()
        if not self.has_listed.is_set():
            self._on_first_list()
        self.has_listed.set()

    async def _watch(self) -> None:
        assert self._resource_version is not None
        known = self._resource_version
        async for event in self._client.watch(
            self._resource, self._namespace, str(self._repeat_from), self._label_selector
        ):
            version = self._take(event)
            if version >= known:
                self._repeat_from = known

    def _forget_version(self) -> None:
        """Begin without a repetition next time, or, if there was none, with a list."""
        if self._resource_version is not None and self._repeat_from < self._resource_version:
            self._repeat_from = self._resource_version
        else:
            self._resource_version = None

    def _take(self, event: Manifest) -> int:
        """Take in one event and return its resource version."""
        assert self._resource_version is not None
        manifest = event["object"]
        if event["type"] == "ERROR":
            raise errors.from_status(int(manifest.get("code", 500)), manifest, {})
        self._heard()
        version = int(manifest["metadata"]["resourceVersion"])
        is_news = self._put(event["type"], manifest)
        if version > self._resource_version:
            self._failures = 0
            self._resource_version = version
        elif is_news:
            self._tell_of_late(manifest)
        return version

    def _put(self, event_type: str, manifest: Manifest) -> bool:
        """Pass an event on to the store; return whether it was news."""
        if event_type == "DELETED":
            return self._store.remove(self._resource, manifest)
        if event_type not in ("ADDED", "MODIFIED") or self._store.has_seen(self._resource, manifest):
            return False
        return self._store.put(self._resource, Entry.of(manifest))

    def _tell_of_late(self, manifest: Manifest) -> None:
        metrics.LATE_EVENTS.labels(self.kind).inc()
        meta = manifest["metadata"]
        logger.warning("made up for a lost event", kind=self.kind, namespace=meta["namespace"], name=meta["name"])

    def _heard(self) -> None:
        self._heard_at = self._acted_at = time.monotonic()

    async def _back_off(self, began: float, error: errors.ApiError | None) -> None:
        """Wait before the next attempt: the longer, the more in a row ended soon and told nothing, for whatever reason.

        A list alone is no success: one that cannot be watched on from would be asked for again and again.
        """
        self._acted_at = time.monotonic()
        if self._acted_at - began > LONGEST_BACKOFF_SECONDS:
            self._failures = 0
        ceiling = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(self._failures, 20))
        delay = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, not a secret
        self._failures += 1
        if error is not None:
            delay = max(delay, error.retry_after_seconds or 0)
            logger.warning(
                "watch interrupted",
                kind=self.kind,
                namespace=self._namespace,
                status=error.status,
                error=error.message,
                retry_seconds=round(delay, 2),
            )
        await self._sleep(delay)
