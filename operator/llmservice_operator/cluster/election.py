"""Which of the operator's replicas writes: the one that holds a Lease.

The others keep their caches warm and take over within seconds. Own code, because the client library's elector for
asyncio cannot create a Lease and waits for a request that hangs beyond its own deadline.

Nobody trusts another machine's clock: a Lease is free when its record has not changed for its duration by our own
monotonic clock, and the holder stops writing before that by its own.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import structlog

from llmservice_operator import metrics, names
from llmservice_operator.cluster import errors
from llmservice_operator.cluster.resources import LEASES, Resource
from llmservice_operator.conditions import micro_timestamp
from llmservice_operator.manifest import Manifest

logger = structlog.get_logger(__name__)

LEASE_SECONDS: Final = 8
RENEW_DEADLINE_SECONDS: Final = 5.0
"""For so long after a renewal was sent its sender may write: less than the Lease lasts for the others."""
RETRY_SECONDS: Final = 1.0
REQUEST_SECONDS: Final = 2.0
RELEASE_SECONDS: Final = 1.0


class Leadership(Protocol):
    """Who may write."""

    @property
    def is_leading(self) -> bool:
        """Whether this replica may write at this moment."""
        ...

    @property
    def trouble(self) -> str:
        """Why this replica cannot even stand for election, and what to do; empty while it can."""
        ...

    async def gained(self) -> None:
        """Return when this replica may write."""
        ...

    async def lost(self) -> None:
        """Return when it may not any more."""
        ...

    async def run(self) -> None:
        """Take part until cancelled."""
        ...


class Alone:
    """An operator without another replica."""

    is_leading = True
    trouble = ""

    async def gained(self) -> None:
        """Return at once."""

    async def lost(self) -> None:
        """Never return."""
        await asyncio.Future()

    async def run(self) -> None:
        """Do nothing until cancelled."""
        metrics.LEADER.set(1)
        await asyncio.Future()


class LeaseClient(Protocol):
    """The part of `client.Client` that an election needs."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest: ...
    async def create(self, resource: Resource, manifest: Manifest) -> Manifest: ...
    async def merge(self, resource: Resource, namespace: str, name: str, patch: Manifest) -> Manifest: ...


class Election:
    """See `Leadership`; `identity` must be that of no other process, now or before."""

    def __init__(self, client: LeaseClient, namespace: str, identity: str, clock: Callable[[], float] = time.monotonic):
        self._client = client
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._lease: Manifest | None = None
        """As our last write left it; None where somebody else may have written since."""
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = 0.0
        self._leading_until = float("-inf")
        self.trouble = ""
        self._gained = asyncio.Event()
        self._lost = asyncio.Event()

    @property
    def is_leading(self) -> bool:
        return self._clock() < self._leading_until

    async def gained(self) -> None:
        """See `Leadership`."""
        await self._gained.wait()

    async def lost(self) -> None:
        """See `Leadership`."""
        await self._lost.wait()

    async def run(self) -> None:
        """Stand for election, and hold the Lease when it is won, until cancelled; then give it back."""
        try:
            while True:
                await self.step()
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            await self._release()

    async def step(self) -> None:
        """Try once to take or to renew the Lease."""
        began = self._clock()
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                holds = await self._hold()
        except (errors.ApiError, TimeoutError) as error:
            # Whether the write was carried out is not known. Until the deadline we hold it as before.
            self._complain(error)
            self._lease = None
        else:
            self.trouble = ""
            self._leading_until = began + RENEW_DEADLINE_SECONDS if holds else float("-inf")
        self._tell()

    def _complain(self, error: errors.ApiError | TimeoutError) -> None:
        code = error.status if isinstance(error, errors.ApiError) else None
        metrics.LEASE_FAILURES.labels(str(code or "error")).inc()
        if not isinstance(error, errors.ForbiddenError):
            logger.warning("no answer about the lease", error=f"{type(error).__name__}: {error}")
            return
        trouble = (
            "Grant the operator's service account get, create and patch on leases in the namespace "
            f"{self._namespace}: {error.message}"
        )
        if trouble != self.trouble:  # Tried every second, said once.
            logger.error("cannot stand for election", error=trouble)
        self.trouble = trouble

    def _tell(self) -> None:
        is_leading = self.is_leading
        metrics.LEADER.set(is_leading)
        if is_leading == self._gained.is_set():
            return
        logger.info("leading" if is_leading else "not leading", identity=self._identity)
        for event, is_set in ((self._gained, is_leading), (self._lost, not is_leading)):
            event.set() if is_set else event.clear()

    async def _hold(self) -> bool:
        lease = self._lease
        if lease is None:
            try:
                lease = await self._client.get(LEASES, self._namespace, names.LEASE)
            except errors.NotFoundError:
                # Somebody deleted it; who held it may write on until its deadline.
                return self._has_run_out() and await self._write(None)
            if not self._is_free(lease):
                return False
        return await self._write(lease)

    def _has_run_out(self) -> bool:
        """Whether the Lease that we saw last, if any, is over for whoever held it, unless that was us."""
        return self._seen is None or self.is_leading or self._clock() - self._seen_at >= LEASE_SECONDS

    def _is_free(self, lease: Manifest) -> bool:
        spec = lease.get("spec", {})
        holder = spec.get("holderIdentity")
        record = (lease["metadata"]["uid"], holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._seen:
            self._seen, self._seen_at = record, self._clock()
        is_outdated = self._clock() - self._seen_at >= spec.get("leaseDurationSeconds", LEASE_SECONDS)
        return not holder or holder == self._identity or is_outdated

    async def _write(self, lease: Manifest | None) -> bool:
        """Write our name into the Lease as it was seen; return whether nobody else was faster."""
        now = micro_timestamp(datetime.now(UTC))
        before = {} if lease is None else lease.get("spec", {})
        is_renewal = before.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": before["acquireTime"] if is_renewal else now,
            "renewTime": now,
            "leaseTransitions": before.get("leaseTransitions", 0) + (0 if is_renewal or lease is None else 1),
        }
        self._lease = None
        try:
            self._lease = await (self._create(spec) if lease is None else self._update(lease, spec))
        except errors.ConflictError:
            return False
        return True

    async def _create(self, spec: Manifest) -> Manifest:
        metadata = {"name": names.LEASE, "namespace": self._namespace}
        body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
        return await self._client.create(LEASES, body)

    async def _update(self, lease: Manifest, spec: Manifest) -> Manifest:
        """Change the Lease as it was seen: whoever wrote in between makes this a ConflictError."""
        seen = {field: lease["metadata"][field] for field in ("uid", "resourceVersion")}
        return await self._client.merge(LEASES, self._namespace, names.LEASE, {"metadata": seen, "spec": spec})

    async def _release(self) -> None:
        """Stop writing, and let the next replica begin at once instead of when the Lease runs out."""
        lease, was_leading = self._lease, self.is_leading
        self._leading_until = float("-inf")
        self._tell()
        if lease is None or not was_leading:
            return
        with contextlib.suppress(errors.ApiError, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._update(lease, {"holderIdentity": None, "leaseDurationSeconds": 1})
