"""The annotation `llmservice.dev/rollback-to`: somebody wants an earlier revision to run.

It concerns the revision that the spec asks for when it is set, or set to another value. That one counts as rejected
until the annotation goes, or names another, or `llmservice.dev/retry` changes. A new spec rolls out at once: it knows
of the annotation from its beginning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from llmservice_operator import names
from llmservice_operator.conditions import Reason, timestamp
from llmservice_operator.desired.revisions import Outcome, Revision
from llmservice_operator.schema import LLMService


@dataclass(frozen=True)
class Asked:
    """What the annotation asks of the revision that the spec asks for."""

    known: str
    """The value that is dealt with."""
    revision: Revision | None = None
    """The one to run instead."""
    complaint: str = ""
    """Why that cannot be; it begins with what to do."""
    retry: str = ""
    remembered: Outcome | None = None
    """What was written down of this before."""

    def outcome(self, now: datetime) -> Outcome | None:
        """Return what becomes of the revision asked for; None where the annotation does not concern it."""
        if self.revision is None:
            return None
        said = f"the annotation {names.ROLLBACK_TO_ANNOTATION} names revision {self.revision.name} instead"
        fresh = Outcome("Rejected", timestamp(now), Reason.ROLLED_BACK, said, self.retry, self.revision.name)
        return self.remembered or fresh


def asked(llmservice: LLMService, known: Revision | None, good: Sequence[Revision]) -> Asked:
    """Return what the annotation asks; `known` is what is written down of the revision that the spec asks for, `good`
    are the others that were good once and can be loaded.
    """
    name = llmservice.metadata.annotations.get(names.ROLLBACK_TO_ANNOTATION, "")
    retry = llmservice.metadata.annotations.get(names.RETRY_ANNOTATION, "")
    if known is None or name in ("", known.name):
        return Asked(name)
    remembered = known.outcome if known.outcome is not None and known.outcome.back_to == name else None
    is_over = known.rollback == name and (remembered is None or remembered.retry != retry)
    if is_over:
        return Asked(name)
    revision = next((item for item in good if item.name == name), None)
    if revision is None:
        return Asked(known.rollback, complaint=_complaint(name, good))
    return Asked(name, revision, retry=retry, remembered=remembered)


def _complaint(name: str, good: Sequence[Revision]) -> str:
    others = ", ".join(item.name for item in good) or "none"
    return (
        f"Change the annotation {names.ROLLBACK_TO_ANNOTATION}: {name!r} is no earlier revision that was good and is "
        f"kept with its model; there is {others}"
    )
