"""The one way a child is written: server-side apply, of the complete body, only when something differs, never over a
foreign object.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog

from llmservice_operator import metrics, names
from llmservice_operator.children import Drift, Refusal
from llmservice_operator.cluster import digest, errors, resources
from llmservice_operator.cluster.belonging import Belonging, belonging, controller
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.confirmation import Confirmation
from llmservice_operator.cluster.drift import drift
from llmservice_operator.cluster.interface import (
    Applied,
    LeftOverError,
    Outcome,
    OutdatedError,
    OwnerGoneError,
    RefusedError,
)
from llmservice_operator.cluster.resources import LLMSERVICES, Resource
from llmservice_operator.cluster.store import Entry, Store
from llmservice_operator.cluster.subset import is_subset
from llmservice_operator.manifest import Manifest, is_being_deleted

logger = structlog.get_logger(__name__)

FIRST_RETRY_SECONDS: Final = 5.0
"""After a first refusal; after each more of the same body it is twice as long, up to one of the next two."""
REJECTED_RETRY_SECONDS: Final = 600.0
"""The same body will be refused again; what may change in between is an admission policy, or its web hook is back."""
OUTSIDE_RETRY_SECONDS: Final = 10.0
"""Quota, rights, a foreign object in the way: somebody can take it away without our watches noticing."""
OWNER_SEEN_SECONDS: Final = 2.0
"""How long a live look at the LLMService holds: the creates of one reconcile."""


@dataclass(frozen=True)
class _Refused:
    body_hash: str
    refusal: Refusal
    until: float
    retry_seconds: float


class Applier:
    """Applies children and remembers what it proved: which body stands in which object, and which body was refused.

    Its memory only saves requests. A restart loses it and costs one comparison per child.
    """

    def __init__(
        self, client: Client, store: Store, confirmation: Confirmation, clock: Callable[[], float] = time.monotonic
    ):
        self._client = client
        self._store = store
        self._confirmation = confirmation
        self._clock = clock
        self._proven: dict[str, tuple[str, str | None]] = {}
        self._refused: dict[tuple[Resource, str, str], _Refused] = {}
        self._owner_seen: dict[str, float] = {}
        self._ending: set[str] = set()
        """The uids of LLMServices in namespaces that are being deleted, which nobody can stop any more."""

    async def apply(self, owner: Manifest, manifest: Manifest) -> Applied:
        """See `interface.Cluster.apply`."""
        resource = resources.of(manifest)
        try:
            applied = await self._apply(owner, resource, manifest)
        except RefusedError:
            metrics.APPLIES.labels(resource.kind, "refused").inc()
            raise
        outcome = applied.outcome
        metrics.APPLIES.labels(resource.kind, outcome.value).inc()
        if outcome is Outcome.REPAIRED:
            metrics.DRIFT_REPAIRS.labels(resource.kind).inc()
        if outcome is not Outcome.UNCHANGED:
            meta = manifest["metadata"]
            logger.info(
                "applied", kind=resource.kind, namespace=meta["namespace"], name=meta["name"], outcome=outcome.value
            )
        return applied

    def forget(self, uid: str) -> None:
        """Drop what was proved about an object that is gone."""
        self._proven.pop(uid, None)
        self._ending.discard(uid)

    def look_again_at(self, owner_uid: str) -> None:
        """Trust no earlier look at an LLMService: a child of it went, maybe because it is gone itself."""
        self._owner_seen.pop(owner_uid, None)

    async def _apply(self, owner: Manifest, resource: Resource, manifest: Manifest) -> Applied:
        meta = manifest["metadata"]
        body_hash = digest.of(manifest)
        self._raise_if_refused(resource, meta, body_hash)
        entry = self._store.get(resource, meta["namespace"], meta["name"])
        if entry is None:
            self._raise_if_ending(owner)
            await self._raise_if_exists(owner, resource, manifest)
            await self._confirm_owner(owner)
            await self._send(owner, resource, _marked(manifest, body_hash), body_hash)
            return Applied(Outcome.CREATED)
        self._raise_unless_ours(owner, resource, entry, body_hash)
        if is_being_deleted(entry.manifest):
            return Applied(Outcome.UNCHANGED)  # The watch tells when it is gone; then it is created again.
        return await self._update(owner, resource, manifest, entry, body_hash)

    async def _update(
        self, owner: Manifest, resource: Resource, manifest: Manifest, entry: Entry, body_hash: str
    ) -> Applied:
        if manifest.get("immutable") and not _has_same_data(manifest, entry.manifest):
            await self._clear_away(owner, resource, entry)
        applied_hash = entry.manifest["metadata"].get("annotations", {}).get(names.APPLIED_HASH_ANNOTATION)
        if resource == resources.JOBS and applied_hash not in (None, body_hash):
            return await self._update_job(owner, manifest, entry)
        if applied_hash == body_hash and self._is_proven(manifest, entry, body_hash):
            return Applied(Outcome.UNCHANGED)
        return await self._overwrite(owner, resource, manifest, entry, body_hash, is_repair=applied_hash == body_hash)

    async def _overwrite(
        self,
        owner: Manifest,
        resource: Resource,
        manifest: Manifest,
        entry: Entry,
        body_hash: str,
        *,
        is_repair: bool,
    ) -> Applied:
        # With the uid the API server takes this as an update only: should the object be gone, it is not made anew
        # behind our back.
        body = _marked(manifest, body_hash)
        body["metadata"]["uid"] = entry.uid
        found = await self._drift(resource, manifest) if is_repair else None
        await self._send(owner, resource, body, body_hash)
        return Applied(Outcome.REPAIRED if is_repair else Outcome.UPDATED, found)

    async def _drift(self, resource: Resource, manifest: Manifest) -> Drift | None:
        """Look live at what is about to be put back: the store keeps no managedFields, which name who changed it."""
        meta = manifest["metadata"]
        try:
            return drift(manifest, await self._client.get(resource, meta["namespace"], meta["name"]))
        except errors.NotFoundError:
            return None

    async def _clear_away(self, owner: Manifest, resource: Resource, entry: Entry) -> NoReturn:
        """Delete an object that is ours by its name only, and have everything decided again.

        An apply would leave what others have put into it.
        """
        await self._confirmation.confirm(owner)
        logger.warning("cleared away", kind=resource.kind, name=entry.manifest["metadata"]["name"])
        try:
            await self._client.delete(resource, entry.manifest)
        except (errors.NotFoundError, errors.ConflictError) as error:
            raise OutdatedError(error.message, retry_after_seconds=0.1) from error
        raise OutdatedError(f"{resource.kind} held other values than ours", retry_after_seconds=0.1)

    async def _update_job(self, owner: Manifest, manifest: Manifest, entry: Entry) -> Applied:
        """Put a Job's labels and owner right and leave the rest.

        A Job's template cannot be changed, and one that another version of the operator rendered still does what its
        name says.
        """
        live = entry.manifest
        if is_subset(manifest["metadata"], live["metadata"]):
            return Applied(Outcome.UNCHANGED)
        applied_hash = live["metadata"]["annotations"][names.APPLIED_HASH_ANNOTATION]
        kept = {**manifest, "spec": live["spec"]}
        return await self._overwrite(owner, resources.JOBS, kept, entry, applied_hash, is_repair=True)

    def _is_proven(self, manifest: Manifest, entry: Entry, body_hash: str) -> bool:
        """Whether the object still is as we applied it: by digest, or the first time after a start by comparing field
        by field.
        """
        proven = self._proven.get(entry.uid)
        if proven is None and is_subset(manifest, entry.manifest):
            proven = self._proven[entry.uid] = (body_hash, entry.digest)
        return proven == (body_hash, entry.digest)

    async def _send(self, owner: Manifest, resource: Resource, body: Manifest, body_hash: str) -> None:
        await self._confirmation.confirm(owner)
        meta = body["metadata"]
        try:
            answer = await self._client.apply(resource, body, names.FIELD_MANAGER)
        except errors.ConflictError as error:
            raise OutdatedError(error.message, retry_after_seconds=0.1) from error
        except errors.InvalidError as error:
            raise self._refusal(
                resource, meta, body_hash, "RejectedByServer", error.message, REJECTED_RETRY_SECONDS
            ) from error
        except errors.ForbiddenError as error:
            if "being terminated" in error.message:
                self._ending.add(owner["metadata"]["uid"])
                raise OwnerGoneError(error.message) from error
            raise self._refusal(
                resource, meta, body_hash, _reason(error), error.message, OUTSIDE_RETRY_SECONDS
            ) from error
        self._refused.pop((resource, meta["namespace"], meta["name"]), None)
        entry = Entry.of(answer)
        self._proven[entry.uid] = (body_hash, entry.digest)
        self._store.put(resource, entry)

    def _raise_if_ending(self, owner: Manifest) -> None:
        meta = owner["metadata"]
        if meta["uid"] in self._ending:
            raise OwnerGoneError(f"namespace {meta['namespace']} is being deleted")

    async def _raise_if_exists(self, owner: Manifest, resource: Resource, manifest: Manifest) -> None:
        """Look whether an object of that name exists that our label-filtered watch cannot see."""
        meta = manifest["metadata"]
        try:
            entry = Entry.of(await self._client.get(resource, meta["namespace"], meta["name"]))
        except errors.NotFoundError:
            return
        self._raise_unless_ours(owner, resource, entry, digest.of(manifest))
        # Ours, with its labels edited away. Everything was decided as if it were not there, so decide again.
        self._store.put(resource, entry)
        raise OutdatedError(f"{resource.kind} {meta['name']} exists without our labels")

    def _raise_unless_ours(self, owner: Manifest, resource: Resource, entry: Entry, body_hash: str) -> None:
        whose = belonging(owner, resource, entry)
        meta = entry.manifest["metadata"]
        if whose is Belonging.LEFT_OVER:
            raise LeftOverError(f"{resource.kind} {meta['name']} of an earlier LLMService of this name is still there")
        if whose is Belonging.FOREIGN:
            message = (
                f"Rename or delete the {resource.kind} {meta['name']}, or name the LLMService otherwise: "
                f"it belongs to {_owner_in_words(entry.manifest)}"
            )
            raise self._refusal(resource, meta, body_hash, "ChildNameConflict", message, OUTSIDE_RETRY_SECONDS)

    async def _confirm_owner(self, owner: Manifest) -> None:
        """Look live at the LLMService: creating for one that is gone would go round for ever with the garbage
        collector.
        """
        uid = owner["metadata"]["uid"]
        if uid in self._fresh_looks():
            return
        # Beside those of others: workers create for several LLMServices side by side. Noted before the answer is there:
        # a child that goes in the meantime takes the look back.
        self._owner_seen = {**self._fresh_looks(), uid: self._clock()}
        try:
            await self._look_at_owner(owner)
        except BaseException:
            self.look_again_at(uid)
            raise

    async def _look_at_owner(self, owner: Manifest) -> None:
        meta = owner["metadata"]
        try:
            live = (await self._client.get(LLMSERVICES, meta["namespace"], meta["name"]))["metadata"]
        except errors.NotFoundError as error:
            raise OwnerGoneError(error.message) from error
        if live["uid"] != meta["uid"] or "deletionTimestamp" in live:
            raise OwnerGoneError(f"LLMService {meta['namespace']}/{meta['name']} is gone or going")

    def _fresh_looks(self) -> dict[str, float]:
        oldest = self._clock() - OWNER_SEEN_SECONDS
        return {uid: seen_at for uid, seen_at in self._owner_seen.items() if seen_at > oldest}

    def _raise_if_refused(self, resource: Resource, meta: Manifest, body_hash: str) -> None:
        """Repeat an earlier refusal without a request until it is time to try again."""
        refused = self._refused.get((resource, meta["namespace"], meta["name"]))
        if refused is None or refused.body_hash != body_hash:
            return
        remaining = refused.until - self._clock()
        if remaining > 0:
            raise RefusedError(refused.refusal, remaining)

    def _refusal(
        self, resource: Resource, meta: Manifest, body_hash: str, reason: str, message: str, longest_seconds: float
    ) -> RefusedError:
        at = (resource, meta["namespace"], meta["name"])
        before = self._refused.get(at)
        retry_seconds = FIRST_RETRY_SECONDS
        if before is not None and before.body_hash == body_hash:
            retry_seconds = min(longest_seconds, 2 * before.retry_seconds)
        refusal = Refusal(kind=resource.kind, name=meta["name"], reason=reason, message=message)
        self._refused[at] = _Refused(body_hash, refusal, self._clock() + retry_seconds, retry_seconds)
        logger.warning("refused", kind=resource.kind, namespace=meta["namespace"], name=meta["name"], reason=reason)
        return RefusedError(refusal, retry_seconds)


def _reason(error: errors.ForbiddenError) -> str:
    if error.missing_right is not None:
        return "OperatorForbidden"
    return "QuotaExceeded" if "exceeded quota" in error.message else "RejectedByServer"


def _marked(manifest: Manifest, body_hash: str) -> Manifest:
    """Return the body as it is sent: with its own hash, by which a later run knows it again."""
    meta = manifest["metadata"]
    annotations = {**meta.get("annotations", {}), names.APPLIED_HASH_ANNOTATION: body_hash}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}


def _has_same_data(manifest: Manifest, live: Manifest) -> bool:
    """Whether a ConfigMap, whose name says what is in it, holds that and nothing beside it: all of it becomes variables
    of the server.
    """
    return bool(live.get("data", {}) == manifest["data"] and not live.get("binaryData"))


def _owner_in_words(manifest: Manifest) -> str:
    reference = controller(manifest)
    return "somebody else" if reference is None else f"{reference['kind']} {reference['name']}"
