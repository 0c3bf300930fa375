"""The sweep Job: it removes from the cache what is not on its list. It needs no network and no Secret."""

from collections.abc import Mapping

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import model_facts
from llmservice_operator.desired.cache_pod import KEEP, cache_pod, pod_failure_policy
from llmservice_operator.desired.cached_model import CachedModel, uid
from llmservice_operator.desired.effective import Effective
from llmservice_operator.desired.placement import claim_labels
from llmservice_operator.desired.quantities import canonicals
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from llmservice_operator.schema.quantity import amount

SECONDS = 600
"""How long it may take, all attempts together: removing files takes moments."""
ATTEMPTS_AGAIN = 3
BAD_CONFIGURATION_EXIT_CODE = 78
NEEDS = {"cpu": "100m", "memory": "256Mi"}
"""Where the profile's warm-up asks for these or limits them, a sweep does too, with less."""


def sweep_job(
    llmservice: LLMService,
    values: Effective,
    cache: CachedModel,
    children: Children,
    keep: list[str],
    garbage: tuple[str, ...],
) -> Manifest:
    """Return the Job that keeps the folders in `keep`, and removes `garbage` and whatever else is there.

    It is named by what it is to do: a Job that is there already is either the same or about something else.
    """
    of_this = names.short_hash({"volume": uid(cache.volume), "keep": keep, "garbage": garbage})
    job = names.sweep_job(llmservice.name, of_this)
    metadata = names.metadata(llmservice, name=job, component=names.SWEEP)
    metadata["annotations"] = {names.VOLUME_UID_ANNOTATION: uid(cache.volume)}
    labels = {**names.labels(llmservice.name, names.SWEEP), **claim_labels(cache.claim)}
    spec = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": ATTEMPTS_AGAIN,
        "activeDeadlineSeconds": SECONDS,
        "podFailurePolicy": pod_failure_policy(names.SWEEP_CONTAINER, [BAD_CONFIGURATION_EXIT_CODE]),
        "template": {"metadata": {"labels": labels}, "spec": _pod_spec(llmservice, values, cache, children, keep)},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def sweep_jobs(children: Children) -> list[Manifest]:
    """Return the live Jobs that remove something."""
    return [job for job in children.jobs if is_sweep(job)]


def is_sweep(job: Manifest) -> bool:
    """Whether a Job removes something, and so is no warm-up."""
    return names.component(job) == names.SWEEP


def _pod_spec(
    llmservice: LLMService, values: Effective, cache: CachedModel, children: Children, keep: list[str]
) -> Manifest:
    warmup = values.profile.warmup
    variables = {
        "MODEL_NAME": "sweep",
        "LLMSERVICE_CACHE_DIR": model_facts.CACHE_MOUNT,
        KEEP: ",".join(keep),
        "LLMSERVICE_LOG_FORMAT": llmservice.spec.observability.log_format.lower(),
    }
    container = {
        "name": names.SWEEP_CONTAINER,
        "image": warmup.image or values.image,
        "args": ["sweep"],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "resources": _resources(warmup.requests, warmup.limits),
    }
    return cache_pod(llmservice, values, cache, children, container)


def _resources(requests: Mapping[str, str], limits: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what a warm-up asks for, no more of it than a sweep needs or may use."""
    bounded = {name: _least(value, NEEDS.get(name), limits.get(name)) for name, value in requests.items()}
    limited = {name: _least(value, NEEDS.get(name)) for name, value in limits.items()}
    return {"requests": canonicals(bounded), "limits": canonicals(limited)}


def _least(*quantities: str | None) -> str:
    return min((quantity for quantity in quantities if quantity is not None), key=amount)
