"""What is wrong with the warm-up."""

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.conditions import Reason
from llmservice_operator.desired.cached_model import CachedModel, failure, pods_of
from llmservice_operator.diagnosis import pods, refused_pods
from llmservice_operator.diagnosis.trouble import Trouble, of_failure
from llmservice_operator.manifest import Manifest, is_true


def trouble(cache: CachedModel, children: Children) -> Trouble | None:
    """Return why the Job of the model asked for failed, or what its pod waits for; None while it works or is done."""
    if cache.job is None or cache.facts is not None:
        return None
    if is_true(cache.job, "Failed"):
        return _failed(cache.job, children, is_final=True)
    attempts = pods_of(cache.job, children.pods)
    running = [pod for pod in attempts if not pods.is_over(pod)]
    if running:
        return pods.trouble(running[-1], names.WARMUP_CONTAINER, children.events)
    if attempts:
        return _failed(cache.job, children, is_final=False)
    return refused_pods.of_job(cache.job, children.events)


def _failed(job: Manifest, children: Children, *, is_final: bool) -> Trouble:
    said = failure(job, children.pods)
    return of_failure(said.reason, said.message, otherwise=Reason.WARMUP_FAILED, is_new=not is_final)
