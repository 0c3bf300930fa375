"""When what no revision needs any more is removed from the cache: once a rollout is complete, and only if there is any.

What may be there is known without a look at the volume: the models that its verdicts are about, and the leftovers of
earlier warm-ups, which its PVC remembers. A verdict goes before its files do, and a leftover after them, so that an
operator that ends in between takes up where it was. A volume that the spec names is somebody else's and never swept.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import model_facts
from llmservice_operator.desired.cached_model import CachedModel, fills, pods_of, turned_at
from llmservice_operator.desired.effective import Effective
from llmservice_operator.desired.rollback import Choice
from llmservice_operator.desired.sweep_job import sweep_job, sweep_jobs
from llmservice_operator.diagnosis import verdict
from llmservice_operator.diagnosis.deployments import live_revision
from llmservice_operator.diagnosis.verdict import Failure, Verdict
from llmservice_operator.manifest import Manifest, has_finished, is_true, named
from llmservice_operator.schema import LLMService

REPEATED_AFTER: Final = timedelta(hours=1)
"""After a sweep that failed. It costs room, and nothing waits for it."""
REMEMBERED: Final = 16
"""Leftovers that a PVC names: one is enough to look for all."""


@dataclass(frozen=True)
class Sweep:
    """What the PVC is to remember, and what is to happen to the Jobs."""

    records: dict[str, Verdict] = field(default_factory=dict)
    """Verdicts about what stays."""
    leftovers: tuple[str, ...] = ()
    """What else may be on the volume: paths, and the warm-up keys of models that did not arrive."""
    manifests: tuple[Manifest, ...] = ()
    deletions: tuple[Manifest, ...] = ()
    wake_after_seconds: float | None = None


def sweep(
    llmservice: LLMService,
    values: Effective,
    cache: CachedModel | None,
    choice: Choice | None,
    children: Children,
    now: datetime,
) -> Sweep:
    """Return what is to become of what is on the volume of `cache`."""
    jobs = tuple(sweep_jobs(children))
    if cache is None or cache.volume is None:
        return Sweep({} if cache is None else cache.records, deletions=jobs)
    leftovers = _leftovers(llmservice, cache, children)
    if llmservice.spec.suspend or not _is_settled(cache, choice, children):
        return Sweep(cache.records, leftovers, deletions=jobs)
    keep = needed(cache, children)
    stays = {key: said for key, said in cache.records.items() if said.path in keep}
    garbage = _remembered({*leftovers, *(said.path for said in cache.records.values())} - keep)
    # More models are kept than verdicts: one that is needed without any is garbage later on.
    later = tuple(path for path in leftovers if path in keep)
    if not garbage:
        return Sweep(stays, later, deletions=jobs)
    leftovers = (*garbage, *later)
    job = sweep_job(llmservice, values, cache, children, sorted(keep), garbage)
    live = named(jobs, job["metadata"]["name"])
    if live is None:
        # One at a time: what another one was told to keep may not be enough.
        return Sweep(stays, leftovers, manifests=() if jobs else (job,), deletions=jobs)
    others = tuple(item for item in jobs if item is not live)
    if is_true(live, "Complete"):
        return Sweep(stays, later, deletions=others)
    if not is_true(live, "Failed"):
        return Sweep(stays, leftovers, deletions=others)
    wait = turned_at(live, "Failed") + REPEATED_AFTER - now
    if wait <= timedelta():
        return Sweep(stays, leftovers, deletions=jobs)
    return Sweep(stays, leftovers, deletions=others, wake_after_seconds=wait.total_seconds())


def needed(cache: CachedModel, children: Children) -> set[str]:
    """Return the folders of the models that the spec asks for, that a pod or the Deployment loads, or that a revision
    which is kept could load.
    """
    templates = [revision.get("data", {}).get("template", {}) for revision in children.revisions]
    deployed = [children.deployment["spec"]["template"]] if children.deployment else []
    found = [cache.facts, *(model_facts.of_template(item) for item in (*templates, *deployed, *children.pods))]
    return {facts.path for facts in found if facts and facts.source == "cache" and facts.claim == cache.claim}


def complaint(children: Children) -> str | None:
    """Return what to do about a sweep that failed, in its own words where it has left any; None where none did."""
    for job in sweep_jobs(children):
        if is_true(job, "Failed"):
            words = [verdict.of_pod(pod, names.SWEEP_CONTAINER) for pod in pods_of(job, children.pods)]
            told = [said.message for said in words if isinstance(said, Failure)]
            return told[-1] if told else f"look at Job {job['metadata']['name']}"
    return None


def _is_settled(cache: CachedModel, choice: Choice | None, children: Children) -> bool:
    """Whether the model asked for is there, no warm-up is at work, and the Deployment has a revision that was good."""
    warmups = [job for job in children.jobs if job not in sweep_jobs(children)]
    if cache.facts is None or any(job is not cache.job or not has_finished(job) for job in warmups):
        return False
    return choice is not None and choice.target.is_good and live_revision(children.deployment) == choice.target.name


def _leftovers(llmservice: LLMService, cache: CachedModel, children: Children) -> tuple[str, ...]:
    """Return what may be on the volume beside the models that are known to be: what the PVC remembers, what a warm-up
    brings that is about to be taken away, and what another commit took the place of.
    """
    assert cache.volume is not None, "without a volume nothing is left on it"
    annotations = cache.volume["metadata"].get("annotations", {})
    remembered = annotations.get(names.LEFTOVERS_ANNOTATION, "").split()
    prefix = names.warmup_job(llmservice.name, "")
    abandoned = [
        job["metadata"]["name"].removeprefix(prefix)
        for job in children.jobs
        if job is not cache.job and job not in sweep_jobs(children) and fills(job, cache.volume)
    ]
    replaced = [said.path for said in verdict.records(annotations.get(names.CACHED_ANNOTATION)).values()]
    known = {*cache.records, *(said.path for said in cache.records.values())}
    return _remembered({*remembered, *abandoned, *replaced} - known)


def _remembered(leftovers: set[str]) -> tuple[str, ...]:
    return tuple(sorted(leftovers)[:REMEMBERED])
