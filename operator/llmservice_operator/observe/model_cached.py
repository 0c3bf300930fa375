"""ModelCached: is the model that the spec asks for on a volume that pods can load it from?"""

from llmservice_operator.conditions import ConditionType, Reason
from llmservice_operator.desired.cached_model import CachedModel, requested
from llmservice_operator.desired.model_facts import ModelFacts
from llmservice_operator.desired.sweep import complaint
from llmservice_operator.manifest import is_true
from llmservice_operator.observe.finding import Finding, bad, unknown
from llmservice_operator.observe.progress import warmup_phase
from llmservice_operator.observe.situation import Situation
from llmservice_operator.observe.volumes import growth
from llmservice_operator.schema.quantity import amount


def model_cached(situation: Situation) -> Finding:
    """Return what the condition ModelCached says."""
    if situation.values is None:
        return unknown("Not looked at without a profile")
    trouble = situation.trouble(ConditionType.MODEL_CACHED)
    if trouble is not None:
        return bad(trouble)
    cache = situation.cache
    if cache is None:
        return Finding("True", Reason.NOT_REQUIRED, "The model is mounted as it is; nothing is downloaded")
    if cache.facts is not None:
        return _there(situation, cache, cache.facts)
    if situation.problems:
        return unknown("Not started before the configuration is valid")
    if situation.llmservice.spec.suspend and cache.job is None:
        return unknown("Nothing is downloaded while spec.suspend is true")
    return _on_the_way(situation, cache)


def _there(situation: Situation, cache: CachedModel, facts: ModelFacts) -> Finding:
    record = cache.records.get(cache.key)
    is_fresh = record is not None and record.outcome == "Downloaded"
    reason = Reason.DOWNLOADED if is_fresh else Reason.ALREADY_PRESENT
    place = f"{facts.ref} at {facts.commit} is on PersistentVolumeClaim {cache.claim}"
    return Finding("True", reason, place + _size(situation, cache) + _unswept(situation))


def _size(situation: Situation, cache: CachedModel) -> str:
    """Return the end of the message when the volume has another size than it is to have."""
    wanted = situation.llmservice.spec.cache.size
    if wanted is not None and cache.volume is not None and amount(wanted) < amount(requested(cache.volume)):
        return f"; spec.cache.size {wanted} is ignored: it has {requested(cache.volume)}"
    return growth(cache)


def _unswept(situation: Situation) -> str:
    """Return the end of the message when room is taken by what nobody needs."""
    advice = complaint(situation.children)
    return "" if advice is None else f"; what is not needed any more could not be removed: {advice}"


def _on_the_way(situation: Situation, cache: CachedModel) -> Finding:
    if cache.job is None and not cache.is_shared and cache.volume is None:
        return Finding("False", Reason.VOLUME_PENDING, f"Wait: PersistentVolumeClaim {cache.claim} is being made")
    other = next((trouble for trouble in situation.troubles if trouble.blocks), None)
    if other is not None:
        return Finding("False", Reason.WARMUP_FAILED if _has_failed(cache) else Reason.DOWNLOADING, other.message)
    title, phase = cache.download.title, warmup_phase(cache, situation.children)
    if phase == "Quantizing":
        return Finding("False", Reason.QUANTIZING, f"Wait: {title} is being quantized")
    doing = "unpacked" if phase == "Unpacking" else "downloaded"
    return Finding("False", Reason.DOWNLOADING, f"Wait: {title} is being {doing}{_size(situation, cache)}")


def _has_failed(cache: CachedModel) -> bool:
    return cache.job is not None and is_true(cache.job, "Failed")
