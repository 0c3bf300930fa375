"""The parts of the status that are no conditions: the model, its cache, replicas and revisions."""

from typing import Any

from llmservice_operator import names
from llmservice_operator.desired import model_facts
from llmservice_operator.desired import revisions as kept
from llmservice_operator.desired.fit import serving_of
from llmservice_operator.desired.memory_need import memory_need
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe.progress import warmup_bytes
from llmservice_operator.observe.situation import Situation


def model(situation: Situation) -> Manifest:
    """Return status.model: the model that pods load, and until one can be loaded only the name of the one asked for,
    with what is known of files that are there and not as asked for.
    """
    facts = situation.facts
    if facts is None:
        named = {"ref": model_facts.ref(situation.llmservice)}
        found = situation.cache.mismatch if situation.cache else None
        return {**named, "resolvedRevision": found.commit, "digest": found.digest} if found else named
    return _present(
        {
            "ref": facts.ref,
            "resolvedRevision": facts.commit or None,
            "digest": facts.digest or None,
            "quantization": facts.quantization,
            "sizeBytes": facts.bytes or None,
            "estimatedMemoryBytes": _estimated_memory(situation),
        }
    )


def _estimated_memory(situation: Situation) -> int | None:
    if situation.values is None:
        return None
    serving = serving_of(situation.values, situation.cache, situation.facts)
    return None if serving is None else memory_need(serving).total


def cache(situation: Situation) -> Manifest | None:
    """Return status.cache, or None where there is none: for a model that is mounted as it is."""
    found = situation.cache
    if found is None:
        return None
    done = warmup_bytes(found, situation.children)
    return _present(
        {
            "claimName": found.claim,
            "state": "Cached" if found.facts else "Pending" if found.job is None else "Warming",
            "bytesDone": done.done if done else None,
            "bytesTotal": done.total if done else None,
            "bytesPerSecond": done.per_second if done else None,
            "secondsLeft": done.seconds_left if done else None,
        }
    )


def replicas(situation: Situation) -> Manifest:
    """Return the counts of replicas; `readySummary` counts pods, and so never runs ahead of Serving."""
    rollout = situation.rollout
    return {
        "replicas": rollout.replicas,
        "readyReplicas": rollout.ready_replicas,
        "updatedReplicas": rollout.updated_replicas,
        "readySummary": f"{situation.ready_pods}/{rollout.wanted_replicas}",
    }


def revisions(situation: Situation) -> Manifest | None:
    """Return status.rollout: the revision that serves, the one that the Deployment goes to, and what came of those
    before; None without any.
    """
    rollout, choice = situation.rollout, situation.choice
    way = choice.strategy if choice and rollout.live_revision else None
    return (
        _present(
            {
                "currentRevision": rollout.current_revision,
                "updatedRevision": rollout.live_revision,
                "lastGoodRevision": choice.last_good.name if choice and choice.last_good else None,
                "rejectedRevision": choice.wanted.name if choice and choice.is_rolled_back else None,
                "strategy": way.name if way else None,
                "strategyReason": (way.reason or None) if way else None,
                "history": _history(situation) or None,
            }
        )
        or None
    )


def _history(situation: Situation) -> list[Manifest]:
    return [
        _present(
            {
                "revision": item.name,
                "result": item.outcome.result,
                "reason": item.outcome.reason or None,
                "time": item.outcome.time,
            }
        )
        for item in kept.of_children(situation.children)
        if item.outcome is not None
    ]


def gpus(situation: Situation) -> Manifest | None:
    """Return status.resources: the GPUs of all replicas asked for together."""
    if situation.values is None:
        return None
    return {"gpus": situation.values.gpus * situation.rollout.wanted_replicas}


def selector(situation: Situation) -> str:
    """Return the pods' selector as text, for the scale subresource."""
    return ",".join(f"{key}={value}" for key, value in sorted(names.selector(situation.llmservice.name).items()))


def url(situation: Situation) -> str:
    """Return where clients inside the cluster reach the model."""
    port = situation.llmservice.spec.service.port
    host = f"http://{names.service(situation.llmservice.name)}.{situation.llmservice.namespace}.svc"
    return host if port == 80 else f"{host}:{port}"


def _present(fields: dict[str, Any]) -> Manifest:
    return {name: value for name, value in fields.items() if value is not None}
