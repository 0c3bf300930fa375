"""Which revision the Deployment gets, and how: the one that the spec asks for, or the last good one while that is
rejected.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.conditions import timestamp
from llmservice_operator.desired import model_facts, revisions, taken_back, updates
from llmservice_operator.desired.cached_model import CachedModel, is_lost
from llmservice_operator.desired.effective import Effective
from llmservice_operator.desired.model_facts import ModelFacts
from llmservice_operator.desired.revisions import Outcome, Revision
from llmservice_operator.desired.strategy import Strategy, strategy
from llmservice_operator.desired.updates import Pending
from llmservice_operator.diagnosis import pods
from llmservice_operator.diagnosis.blame import own_fault
from llmservice_operator.diagnosis.deployments import is_observed, live_revision
from llmservice_operator.schema import LLMService
from llmservice_operator.settings import Settings


@dataclass(frozen=True)
class Choice:
    """The revision asked for, with what is known of it by now, and the one that is to run."""

    wanted: Revision
    target: Revision
    last_good: Revision | None
    """The one to go back to; `wanted` itself once it is good."""
    strategy: Strategy
    """How the replicas become those of `target`."""
    pending_update: Pending | None = None
    """What this operator would render otherwise than `wanted` has it, though nobody has asked for that yet."""
    complaint: str = ""
    """Why the revision cannot be gone back to that somebody has named."""

    @property
    def is_rolled_back(self) -> bool:
        """Whether another revision runs than the spec asks for."""
        return self.target is not self.wanted


def choose(
    llmservice: LLMService,
    values: Effective,
    facts: ModelFacts,
    cache: CachedModel | None,
    settings: Settings,
    children: Children,
    now: datetime,
) -> Choice:
    """Return which revision is to run when the spec asks for pods that load the model of `facts`.

    A newer spec supersedes a rollout at once, whatever became of that: only the revision asked for now is judged.
    """
    kept = revisions.of_children(children)
    rendered = updates.rendering(llmservice, values, facts, children)
    pending = updates.pending(llmservice, rendered, kept[-1], settings, children, now) if kept else None
    current = kept[-1] if pending else rendered
    name = current.template["metadata"]["labels"][names.REVISION_LABEL]
    known = next((item for item in kept if item.name == name), None)
    others = [item for item in kept if item.name != name]
    good = [item for item in others if item.is_good and can_load(item, cache)]
    before = good[-1] if good else None
    by_hand = taken_back.asked(llmservice, known, good)
    outcome = by_hand.outcome(now) or _outcome(llmservice, name, known, before, children, now)
    wanted = Revision(
        name=name,
        number=_number(known, others, outcome),
        template=current.template,
        environment=current.environment,
        prompts=current.prompts,
        outcome=outcome,
        # What a ControllerRevision holds cannot be changed; it was rendered from this and nothing else matters.
        request=updates.request(llmservice) if known is None else known.request,
        update=updates.asked_for(llmservice),
        rollback=by_hand.known,
        beyond={} if known is None else known.beyond,
    )
    back_to = by_hand.revision or (before if wanted.is_rejected and _takes_back(llmservice) else None)
    # Going back takes the same way: where the new replicas took the place of old ones, these take it again.
    in_place = known.in_place if known is not None and known.number == wanted.number else ""
    way = strategy(llmservice, back_to or wanted, in_place, children, now)
    wanted = replace(wanted, in_place=way.reason if way.name == "InPlace" else "")
    return Choice(wanted, back_to or wanted, wanted if wanted.is_good else before, way, pending, by_hand.complaint)


def can_load(revision: Revision, cache: CachedModel | None) -> bool:
    """Whether the model of an earlier revision still lies where its pods look for it."""
    facts = model_facts.of_template(revision.template)
    return facts is not None and not is_lost(cache, facts)


def good_revisions(choice: Choice, children: Children) -> set[str]:
    """Return the names of the revisions that were good once, with the one that has just become so."""
    kept = [item for item in revisions.of_children(children) if item.name != choice.wanted.name]
    return {item.name for item in (*kept, choice.wanted) if item.is_good}


def surplus(choice: Choice | None, children: Children, limit: int) -> list[str]:
    """Return the names of the revisions that are not kept any more: all but those in use and the newest `limit`."""
    kept = revisions.of_children(children)
    in_use = {live_revision(children.deployment), *(pods.revision(pod) for pod in pods.server_pods(children))}
    if choice is not None:
        in_use |= {item.name for item in (choice.wanted, choice.target, choice.last_good) if item is not None}
    idle = [item.name for item in kept if item.name not in in_use]
    return idle[: max(0, len(idle) - limit)]


def _number(known: Revision | None, others: list[Revision], outcome: Outcome | None) -> int:
    """Return the number of the revision asked for: the highest, so that going back to an older one makes it the newest.

    A rejected one keeps its place: it is not the one that runs.
    """
    newest = max((item.number for item in others), default=0)
    if known is not None and (known.number > newest or (outcome is not None and outcome.result == "Rejected")):
        return known.number
    return newest + 1


def _outcome(
    llmservice: LLMService,
    revision: str,
    known: Revision | None,
    before: Revision | None,
    children: Children,
    now: datetime,
) -> Outcome | None:
    """Return what is known of the revision asked for. Good stays good, and rejected rejected until a retry, or until
    it has come up after all, as with Hold it may.
    """
    retry = llmservice.metadata.annotations.get(names.RETRY_ANNOTATION, "")
    outcome = None if known is None else known.outcome
    if outcome is not None and outcome.result == "Good":
        return outcome
    is_live = live_revision(children.deployment) == revision
    if is_live and _is_up(children, revision):
        return Outcome("Good", timestamp(now))
    if outcome is not None and outcome.retry == retry and not outcome.back_to:
        return outcome
    if not is_live:
        return None
    if before is None or not _takes_back(llmservice):
        return None
    fault = own_fault(children, revision)
    return None if fault is None else Outcome("Rejected", timestamp(now), fault.reason, fault.message, retry)


def _takes_back(llmservice: LLMService) -> bool:
    return llmservice.spec.rollout.on_failure == "Rollback"


def _is_up(children: Children, revision: str) -> bool:
    """Whether every replica is of this revision and ready: Deployment and pods agree, and there is at least one."""
    deployment = children.deployment
    if deployment is None or not is_observed(deployment):
        return False
    status = deployment["status"]
    counts = {status.get(field, 0) for field in ("replicas", "updatedReplicas", "readyReplicas")}
    mine = pods.server_pods(children)
    return (
        len(counts) == 1
        and counts == {len(mine)}
        and bool(mine)
        and all(pods.revision(pod) == revision and pods.is_ready(pod) for pod in mine)
    )
