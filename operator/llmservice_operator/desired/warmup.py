"""When a warm-up Job is made, left alone, repeated or taken away."""

from dataclasses import dataclass
from datetime import datetime

from llmservice_operator.children import Children
from llmservice_operator.desired import prune
from llmservice_operator.desired.cached_model import CachedModel, retry_at
from llmservice_operator.desired.effective import Effective
from llmservice_operator.desired.sweep_job import sweep_jobs
from llmservice_operator.desired.warmup_job import is_of_other_making, warmup_job
from llmservice_operator.manifest import Manifest, has_finished, is_being_deleted
from llmservice_operator.schema import LLMService


@dataclass(frozen=True)
class Warmup:
    """What is to happen to the Jobs."""

    manifests: tuple[Manifest, ...] = ()
    deletions: tuple[Manifest, ...] = ()
    wake_after_seconds: float | None = None
    """When a Job that failed, or whose verdict is lost, is to be repeated."""


def warmup(
    llmservice: LLMService, values: Effective, cache: CachedModel | None, children: Children, now: datetime
) -> Warmup:
    """Return what is to happen to the warm-up Jobs of `llmservice`, none for a model that is mounted."""
    surplus = tuple(prune.surplus_jobs(cache, children))
    if cache is None:
        return Warmup(deletions=surplus)
    job = warmup_job(llmservice, values, cache, children)
    if cache.job is None:
        is_due = not llmservice.spec.suspend and _can_start(job, cache, children)
        return Warmup(manifests=(job,) if is_due else (), deletions=surplus)
    if is_being_deleted(cache.job):
        return Warmup(deletions=surplus)
    if is_of_other_making(cache.job, job):
        # Once its verdict is known it may stay: what the key leaves out does not change which bytes it left.
        return Warmup(deletions=surplus if cache.facts is not None else (*surplus, cache.job))
    again_at = None if llmservice.spec.suspend else retry_at(cache, children.pods)
    if again_at is None:
        return Warmup(manifests=(job,), deletions=surplus)
    if again_at <= now:
        return Warmup(deletions=(*surplus, cache.job))
    return Warmup(manifests=(job,), deletions=surplus, wake_after_seconds=(again_at - now).total_seconds())


def _can_start(job: Manifest, cache: CachedModel, children: Children) -> bool:
    """Whether the model is missing, the volume is there, no sweep goes on that does not know of this model, and no Job
    about an earlier volume still has the name.

    The Job notes the uid of its volume, so a volume of our own comes first.
    """
    if cache.facts is not None:
        return False
    if not cache.is_shared and (cache.volume is None or is_being_deleted(cache.volume)):
        return False
    if not all(has_finished(other) for other in sweep_jobs(children)):
        return False
    return all(other["metadata"]["name"] != job["metadata"]["name"] for other in children.jobs)
