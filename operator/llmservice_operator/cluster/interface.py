"""What a reconcile asks of the cluster. The API server stands behind it in production, `FakeCluster` in tests."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from llmservice_operator.children import Children, Drift, Refusal
from llmservice_operator.cluster.resources import Key
from llmservice_operator.manifest import Manifest


class Outcome(StrEnum):
    """What applying one child came to."""

    CREATED = "created"
    UPDATED = "updated"
    REPAIRED = "repaired"
    """The body was already applied, and somebody else has changed it since."""
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Applied:
    """What applying one child came to, and for one that was repaired what had been changed."""

    outcome: Outcome
    drift: Drift | None = None


class RefusedError(Exception):
    """A child cannot be written and a condition must say so; trying again before `retry_after_seconds` is useless."""

    def __init__(self, refusal: Refusal, retry_after_seconds: float):
        super().__init__(f"{refusal.kind} {refusal.name}: {refusal.reason}: {refusal.message}")
        self.refusal = refusal
        self.retry_after_seconds = retry_after_seconds


class LeftOverError(Exception):
    """A child of an earlier LLMService of the same name is in the way and about to be collected: wait for it."""

    retry_after_seconds = 1.0


class OutdatedError(Exception):
    """The picture this reconcile decided from is not what is there: look again, after `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0):
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class OwnerGoneError(Exception):
    """The LLMService is deleted or being deleted: nothing may be created for it any more."""


@dataclass(frozen=True)
class Notice:
    """One event about an LLMService, for people."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    message: str


class Cluster(Protocol):
    """The cluster around the LLMServices: reads come from watches, writes happen only where something differs."""

    def llmservice(self, key: Key) -> Manifest | None:
        """Return the LLMService as it was last seen."""

    async def children_of(self, owner: Manifest) -> Children:
        """Return the objects that belong to the LLMService `owner`, without events, reports and refusals."""

    async def apply(self, owner: Manifest, manifest: Manifest) -> Applied:
        """Bring one child to its complete desired body; send nothing when it is there already.

        Raises:
            RefusedError: the API server, or our guard against foreign objects, will not have it.
            LeftOverError: an earlier child of that name has to go first.
            OutdatedError: the store missed something; the whole reconcile must be repeated.
            OwnerGoneError: a first create, but the LLMService no longer exists.
        """

    async def hand_over_replicas(self, owner: Manifest, manifest: Manifest) -> bool:
        """Let the second field manager hold a Deployment's `spec.replicas`, if the first one holds it now; return
        whether it did.
        """

    async def delete(self, owner: Manifest, manifest: Manifest) -> bool:
        """Delete a child exactly as it was seen; return False when that has to wait or is under way."""

    async def apply_status(self, owner: Manifest, status: Manifest) -> bool:
        """Write the whole status if it differs from the one last seen; return whether it was written."""

    async def events_about(self, objects: list[Manifest]) -> tuple[Manifest, ...]:
        """Return the events of the cluster about a few troubled objects, newest last."""

    def record(self, owner: Manifest, notice: Notice) -> None:
        """Write an event about the LLMService soon, or drop it under pressure. Never blocks, never fails."""
