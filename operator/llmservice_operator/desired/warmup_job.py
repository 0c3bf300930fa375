"""The warm-up Job: it downloads and quantizes the model before any pod asks for a GPU."""

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import model_facts
from llmservice_operator.desired.cache_pod import KEEP, cache_pod, pod_failure_policy
from llmservice_operator.desired.cached_model import CachedModel, capacity
from llmservice_operator.desired.download import download
from llmservice_operator.desired.effective import Effective
from llmservice_operator.desired.placement import claim_labels
from llmservice_operator.desired.pod_security import literal
from llmservice_operator.desired.quantities import canonicals
from llmservice_operator.desired.sweep import needed
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService

INCURABLE_EXIT_CODES = [65, 78]
"""A failure that repeating cannot cure, and a bad configuration."""


def warmup_job(llmservice: LLMService, values: Effective, cache: CachedModel, children: Children) -> Manifest:
    """Return the Job that leaves the model of `cache.key` on the volume.

    A Job's template cannot be changed. So a Job that is there keeps the image it was made with, which the key leaves
    out on purpose, and the list of what is needed on the volume beside its own model.
    """
    job = names.warmup_job(llmservice.name, cache.key)
    template = {
        "metadata": {"labels": {**names.labels(llmservice.name, names.WARMUP), **claim_labels(cache.claim)}},
        "spec": _pod_spec(llmservice, values, cache, children),
    }
    spec = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": values.warmup_backoff_limit,
        "activeDeadlineSeconds": values.warmup_timeout_seconds,
        "podFailurePolicy": pod_failure_policy(names.WARMUP_CONTAINER, INCURABLE_EXIT_CODES),
        "template": template,
    }
    metadata = names.metadata(llmservice, name=job, component=names.WARMUP)
    metadata["labels"][names.REVISION_LABEL] = names.short_hash(spec)
    if cache.volume is not None:
        metadata["annotations"] = {
            names.VOLUME_UID_ANNOTATION: cache.volume["metadata"]["uid"],
            **_size(cache.volume, cache.job),
        }
    # Only after hashing: they are not part of what makes two Jobs differ.
    container = template["spec"]["containers"][0]
    container["image"] = _image(values, cache.job)
    container["env"] += _kept(cache, children)
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def is_of_other_making(live: Manifest, wanted: Manifest) -> bool:
    """Whether a live Job was made from other values than `wanted`, such as another Secret; its template cannot follow
    them.
    """
    revision = live["metadata"].get("labels", {}).get(names.REVISION_LABEL)
    return revision not in (None, wanted["metadata"]["labels"][names.REVISION_LABEL])


def _pod_spec(llmservice: LLMService, values: Effective, cache: CachedModel, children: Children) -> Manifest:
    warmup = values.profile.warmup
    container = {
        "name": names.WARMUP_CONTAINER,
        "args": ["warmup"],
        "env": _environment(llmservice, values),
        "ports": [
            {"name": names.MANAGEMENT_PORT_NAME, "containerPort": names.MANAGEMENT_PORT, "protocol": "TCP"},
        ],
        "resources": {"requests": canonicals(warmup.requests), "limits": canonicals(warmup.limits)},
    }
    return cache_pod(llmservice, values, cache, children, container)


def _environment(llmservice: LLMService, values: Effective) -> list[Manifest]:
    wanted = download(llmservice, values)
    assert wanted is not None, "a source without a download has no warm-up"
    choices = model_facts.quantization_choices(llmservice)
    variables = {
        "MODEL_NAME": model_facts.ref(llmservice),
        "LLMSERVICE_CACHE_DIR": model_facts.CACHE_MOUNT,
        **wanted.environment,
        "LLMSERVICE_QUANTIZATION": choices["quantization"],
        "LLMSERVICE_COMPUTE_DTYPE": choices["compute_dtype"],
        "LLMSERVICE_DOUBLE_QUANT": str(choices["double_quant"]).lower(),
        "LLMSERVICE_LOG_FORMAT": llmservice.spec.observability.log_format.lower(),
        **values.profile.env,
    }
    given: list[Manifest] = [{"name": name, "value": literal(value)} for name, value in variables.items()]
    return [*given, *wanted.secrets]


def _kept(cache: CachedModel, children: Children) -> list[Manifest]:
    """Return the variable with the folders that are needed, by which a warm-up without room knows what may go.

    Nobody can say that of a volume that is somebody else's.
    """
    if cache.job is not None:
        live: list[Manifest] = cache.job["spec"]["template"]["spec"]["containers"][0].get("env", [])
        return [variable for variable in live if variable["name"] == KEEP]
    if cache.is_shared:
        return []
    known = needed(cache, children) | {said.path for said in cache.records.values()}
    # As the API server keeps it: an empty value is none.
    return [{"name": KEEP, "value": ",".join(sorted(known))} if known else {"name": KEEP}]


def _size(volume: Manifest, live: Manifest | None) -> dict[str, str]:
    """Return the annotation with the size that the volume has when the Job is made."""
    made_with = {names.VOLUME_SIZE_ANNOTATION: capacity(volume)}
    if live is None:
        return made_with
    annotations = live["metadata"].get("annotations", {})
    return {name: annotations[name] for name in made_with if name in annotations}


def _image(values: Effective, live: Manifest | None) -> str:
    if live is None:
        return values.profile.warmup.image or values.image
    image: str = live["spec"]["template"]["spec"]["containers"][0]["image"]
    return image
