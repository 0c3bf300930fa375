"""What is wrong with the warm-up."""

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.conditions import Reason
from llmservice_operator.desired.cached_model import CachedModel, failure, pods_of
from llmservice_operator.diagnosis import pods, refused_pods
from llmservice_operator.diagnosis.trouble import Trouble, of_failure
from llmservice_operator.diagnosis.verdict import Verdict
from llmservice_operator.manifest import Manifest, is_true
from llmservice_operator.schema import LLMService


def trouble(llmservice: LLMService, cache: CachedModel, children: Children) -> Trouble | None:
    """Return why the Job of the model asked for failed, what its pod waits for, or that it left other files than asked
    for; None while it works or is done.
    """
    if cache.mismatch is not None and (cache.job is None or is_true(cache.job, "Complete")):
        return _mismatch(llmservice, cache.mismatch)
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


def _mismatch(llmservice: LLMService, found: Verdict) -> Trouble:
    model = llmservice.spec.model
    return Trouble(
        Reason.DIGEST_MISMATCH,
        f"Correct spec.model.digest, or the source: the files have {found.digest}, not {model.digest}; they are of "
        f"{model.source.one.ref} at {found.commit}",
    )
