"""Whether the model that the spec asks for is on the cache volume, and what is known of it.

The warm-up key stands for everything that decides which bytes a warm-up leaves. For a volume of our own the verdicts
are kept in an annotation of its PVC; a shared one is not ours to write, so there the live pod template remembers, and
before that the finished Job.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import model_facts
from llmservice_operator.desired.download import Download, download
from llmservice_operator.desired.effective import Effective
from llmservice_operator.desired.model_facts import ModelFacts
from llmservice_operator.diagnosis import verdict
from llmservice_operator.diagnosis.model_shape import ModelShape, of_text
from llmservice_operator.diagnosis.verdict import Failure, Verdict
from llmservice_operator.manifest import Manifest, condition, is_being_deleted, is_true, named
from llmservice_operator.schema import LLMService
from llmservice_operator.schema.quantity import amount

KEPT_VERDICTS = 4
"""Verdicts remembered in a PVC: going back to an earlier model needs no warm-up, and the annotation stays under 4
KiB.
"""
RETRY_AFTER = timedelta(seconds=300)
"""After a failure that repeating rarely cures: two attempts in ten minutes, and a fixed repository heals by itself."""
RETRY_SOON = timedelta(seconds=60)
SHORT_LIVED = frozenset({"HubUnreachable", "Throttled"})
"""Failures of the hub that pass by themselves."""


@dataclass(frozen=True)
class CachedModel:
    """The cache of one LLMService whose model is downloaded, as far as it concerns the model asked for now."""

    key: str
    """The warm-up key."""
    claim: str
    """Name of the PVC."""
    is_shared: bool
    """The claim is named by the spec and belongs to somebody else."""
    volume: Manifest | None
    """The live PVC, when it is our own and there."""
    job: Manifest | None
    """The live Job of this key, unless it filled another volume."""
    records: dict[str, Verdict]
    """Verdicts about our own volume by warm-up key, the ones that finished Jobs add included."""
    facts: ModelFacts | None
    """What pods need to load the model; None until it is cached."""
    mismatch: Verdict | None
    """What is cached in its place: files with another digest than the spec asks for."""
    download: Download
    """What a warm-up brings."""
    shapes: dict[str, ModelShape]
    """What is known of how much memory models need, by warm-up key."""


def cached_model(llmservice: LLMService, values: Effective, children: Children) -> CachedModel | None:
    """Return the state of the cache, or None for a source that pods mount as it is."""
    wanted = download(llmservice, values)
    if wanted is None:
        return None
    shared = llmservice.spec.cache.claim_name
    claim = shared or names.cache_claim(llmservice.name, _volume_hash(llmservice, values))
    volume = None if shared else named(children.claims, claim)
    key = warmup_key(llmservice, wanted, claim)
    jobs = {job["metadata"]["name"]: job for job in children.jobs if shared or fills(job, volume)}
    live = model_facts.of_deployment(children.deployment)
    known = {**_in_use(live, claim, uid(volume)), **_recorded(volume), **_finished(llmservice, jobs, children)}
    found = known.get(key)
    is_other = found is not None and llmservice.spec.model.digest not in (None, found.digest)
    return CachedModel(
        key=key,
        claim=claim,
        is_shared=bool(shared),
        volume=volume,
        job=jobs.get(names.warmup_job(llmservice.name, key)),
        records={} if shared else _kept(known, {key, live.key if live else key}),
        facts=None if found is None or is_other else _facts(llmservice, key, claim, uid(volume), found),
        mismatch=found if is_other else None,
        download=wanted,
        shapes=_kept_shapes(children) | {key: said.shape for key, said in known.items() if said.shape is not None},
    )


def is_lost(cache: CachedModel | None, facts: ModelFacts) -> bool:
    """Whether the files that `facts` are about went with an earlier volume, so that no new pod could load them."""
    if cache is None or cache.volume is None or is_being_deleted(cache.volume):
        return False
    return facts.claim == cache.claim and facts.volume != uid(cache.volume)


def served_model(llmservice: LLMService, cache: CachedModel | None, children: Children) -> ModelFacts | None:
    """Return the facts to render pods with: of the model asked for once it can be had, until then of the one that
    serves.

    None when neither is there: then no pod can start, and none may ask for a GPU.
    """
    wanted = model_facts.of_mounted(llmservice) if cache is None else cache.facts
    return wanted or model_facts.of_deployment(children.deployment)


def warmup_key(llmservice: LLMService, wanted: Download, claim: str) -> str:
    """Return the short hash of everything that decides which bytes a warm-up leaves, and where.

    Image and version of the operator are left out: an upgrade must not download every model again. So is the digest
    asked for: whether files have it can be told without them.
    """
    return names.short_hash({**wanted.key, "claim": claim, **model_facts.quantization_choices(llmservice)})


def uid(volume: Manifest | None) -> str:
    """Return the uid of a live PVC of our own; "" without one."""
    return str(volume["metadata"]["uid"]) if volume else ""


def fills(job: Manifest, volume: Manifest | None) -> bool:
    """Whether a Job is about this very volume and not about an earlier one of the same name."""
    filled = job["metadata"].get("annotations", {}).get(names.VOLUME_UID_ANNOTATION)
    return volume is not None and filled in (None, volume["metadata"]["uid"])


def pods_of(job: Manifest, pods: tuple[Manifest, ...]) -> list[Manifest]:
    """Return the pods of a Job, the oldest first."""
    uid = job["metadata"]["uid"]
    mine = [pod for pod in pods if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences", ()))]
    return sorted(mine, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))


def failure(job: Manifest, pods: tuple[Manifest, ...]) -> Failure:
    """Return why a failed Job failed: its last pod's own words where they are left, else the Job's."""
    if is_true(job, "Failed") and condition(job, "Failed").get("reason") == "DeadlineExceeded":
        limit = job["spec"].get("activeDeadlineSeconds")
        return Failure(
            reason="WarmupTimedOut",
            message=f"Raise spec.cache.warmup.timeoutSeconds: the warm-up was not done after {limit} s",
        )
    for pod in reversed(pods_of(job, pods)):
        said = verdict.of_pod(pod, names.WARMUP_CONTAINER)
        if isinstance(said, Failure):
            return said
    advice = f"Look at the log of Job {job['metadata']['name']}: the warm-up ended without saying why"
    return Failure(reason="WarmupFailed", message=advice)


def retry_at(cache: CachedModel, pods: tuple[Manifest, ...]) -> datetime | None:
    """Return when the Job is made anew, or None when it is under way or its verdict is known.

    Where it found too little room and there is more by now, that is at once.

    A Job can succeed and its verdict be lost, with its pod: then another one finds all files there and says so. Files
    with another digest than the one asked for may be of a branch or a folder that has moved since.
    """
    if cache.job is None or cache.facts is not None:
        return None
    if is_true(cache.job, "Failed"):
        reason = failure(cache.job, pods).reason
        if reason == "CacheFull" and _has_grown(cache.job, cache.volume):
            return turned_at(cache.job, "Failed")
        return turned_at(cache.job, "Failed") + (RETRY_SOON if reason in SHORT_LIVED else RETRY_AFTER)
    wait = RETRY_SOON if cache.mismatch is None else RETRY_AFTER
    return turned_at(cache.job, "Complete") + wait if is_true(cache.job, "Complete") else None


def turned_at(job: Manifest, kind: str) -> datetime:
    """Return when a condition of a Job became what it is."""
    return datetime.fromisoformat(condition(job, kind)["lastTransitionTime"])


def requested(volume: Manifest) -> str:
    """Return the size that a PVC asks for."""
    size: str = volume["spec"]["resources"]["requests"]["storage"]
    return size


def capacity(volume: Manifest) -> str:
    """Return the size that a PVC has; the one it asks for while it has none."""
    return volume.get("status", {}).get("capacity", {}).get("storage") or requested(volume)


def _has_grown(job: Manifest, volume: Manifest | None) -> bool:
    """Whether a volume became larger after a Job was made, or will when the next pod mounts it."""
    before = job["metadata"].get("annotations", {}).get(names.VOLUME_SIZE_ANNOTATION)
    if volume is None or before is None:
        return False
    if amount(capacity(volume)) > amount(before):
        return True
    pending = condition(volume, "FileSystemResizePending")
    return pending.get("status") == "True" and pending.get("lastTransitionTime", "") > str(
        condition(job, "Failed")["lastTransitionTime"]
    )


def _volume_hash(llmservice: LLMService, values: Effective) -> str | None:
    """Return what tells a volume of chosen class or mode from the default one, both of which are immutable in a PVC."""
    profile = values.profile
    wanted = (values.storage_class_name, values.access_mode)
    if wanted == (profile.storage_class_name, profile.access_mode):
        return None
    return names.short_hash({"storageClassName": wanted[0], "accessMode": wanted[1]})


def _finished(llmservice: LLMService, jobs: dict[str, Manifest], children: Children) -> dict[str, Verdict]:
    """Return the verdicts of the Jobs whose pods are still there, by warm-up key.

    A pod says its verdict a second before the Job controller counts it, and pods that wait for it need not.
    """
    prefix = names.warmup_job(llmservice.name, "")
    found: dict[str, Verdict] = {}
    for name, job in sorted(jobs.items()):
        for pod in pods_of(job, children.pods):
            said = verdict.of_pod(pod, names.WARMUP_CONTAINER)
            if isinstance(said, Verdict):
                found[name.removeprefix(prefix)] = said
    return found


def _recorded(volume: Manifest | None) -> dict[str, Verdict]:
    annotations = volume["metadata"].get("annotations", {}) if volume else {}
    return verdict.records(annotations.get(names.CACHED_ANNOTATION))


def _in_use(live: ModelFacts | None, claim: str, volume: str) -> dict[str, Verdict]:
    """Return what the live pod template knows of this volume: it outlasts a Job, and an annotation that was edited."""
    if live is None or live.source != "cache" or (live.claim, live.volume) != (claim, volume):
        return {}
    fields = {name: getattr(live, name) for name in ("commit", "digest", "path", "quantization", "bytes")}
    try:
        return {live.key: Verdict.model_validate({"outcome": "AlreadyPresent", **fields})}
    except ValidationError:
        return {}


def _kept_shapes(children: Children) -> dict[str, ModelShape]:
    """Return what the revisions remember of their models, by warm-up key: it outlasts the Job of a shared cache."""
    found: dict[str, ModelShape] = {}
    for revision in children.revisions:
        facts = model_facts.of_template(revision.get("data", {}).get("template", {}))
        shape = of_text(revision["metadata"].get("annotations", {}).get(names.SHAPE_ANNOTATION))
        if facts is not None and shape is not None:
            found[facts.key] = shape
    return found


def _kept(records: dict[str, Verdict], needed: set[str]) -> dict[str, Verdict]:
    """Return the newest few of the verdicts, those in use never left out, in their order."""
    others = [key for key in records if key not in needed]
    room = max(0, KEPT_VERDICTS - len(needed & records.keys()))
    kept = needed | set(others[max(0, len(others) - room) :])
    return {key: value for key, value in records.items() if key in kept}


def _facts(llmservice: LLMService, key: str, claim: str, volume: str, known: Verdict) -> ModelFacts:
    choices = model_facts.quantization_choices(llmservice)
    return ModelFacts(
        source="cache",
        key=key,
        ref=model_facts.ref(llmservice),
        served_name=model_facts.served_name(llmservice),
        claim=claim,
        volume=volume,
        path=known.path,
        commit=known.commit,
        digest=known.digest,
        bytes=known.bytes,
        **{**choices, "quantization": known.quantization},
    )
