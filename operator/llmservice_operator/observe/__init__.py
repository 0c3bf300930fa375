"""What is there around one LLMService: `observe` is a pure function that returns its whole status."""

from datetime import datetime

from llmservice_operator.children import Children
from llmservice_operator.conditions import ConditionType, condition
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import model_status
from llmservice_operator.observe.autoscaling import autoscaling_active
from llmservice_operator.observe.configuration import configuration_valid
from llmservice_operator.observe.degraded import degraded
from llmservice_operator.observe.drifted import drifted
from llmservice_operator.observe.finding import Finding
from llmservice_operator.observe.last_failure import last_failure
from llmservice_operator.observe.model_cached import model_cached
from llmservice_operator.observe.paused import paused
from llmservice_operator.observe.progress import progress
from llmservice_operator.observe.ready import phase, ready, reconciling, stalled
from llmservice_operator.observe.scheduled import scheduled
from llmservice_operator.observe.serving import serving
from llmservice_operator.observe.situation import Situation, situation
from llmservice_operator.observe.update_pending import operator, update_pending
from llmservice_operator.observe.verified import verified
from llmservice_operator.observe.warnings import warnings
from llmservice_operator.schema import LLMService
from llmservice_operator.settings import Settings

__all__ = ["last_failure", "observe"]

_CONDITIONS = {
    ConditionType.READY: ready,
    ConditionType.SERVING: serving,
    ConditionType.RECONCILING: reconciling,
    ConditionType.STALLED: stalled,
    ConditionType.CONFIGURATION_VALID: configuration_valid,
    ConditionType.MODEL_CACHED: model_cached,
    ConditionType.SCHEDULED: scheduled,
    ConditionType.VERIFIED: verified,
    ConditionType.AUTOSCALING_ACTIVE: autoscaling_active,
    ConditionType.DEGRADED: degraded,
    ConditionType.UPDATE_PENDING: update_pending,
    ConditionType.DRIFTED: drifted,
    ConditionType.PAUSED: paused,
}


def observe(llmservice: LLMService, children: Children, settings: Settings, now: datetime) -> Manifest:
    """Return the status of `llmservice`. Equal facts give an equal status: `now` only dates conditions that turn."""
    facts = situation(llmservice, children, settings, now)
    fields = {
        "observedGeneration": llmservice.generation,
        "phase": phase(facts).value,
        **model_status.replicas(facts),
        "progress": progress(facts),
        "selector": model_status.selector(facts),
        "url": model_status.url(facts),
        "model": model_status.model(facts),
        "resources": model_status.gpus(facts),
        "cache": model_status.cache(facts),
        "rollout": model_status.revisions(facts),
        "operator": operator(facts),
        "lastFailure": last_failure(llmservice, children),
        "warnings": warnings(llmservice),
        "conditions": _conditions(facts, now),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _conditions(facts: Situation, now: datetime) -> list[Manifest]:
    previous = facts.llmservice.status.get("conditions") or ()
    findings: dict[ConditionType, Finding | None] = {kind: decide(facts) for kind, decide in _CONDITIONS.items()}
    return [
        condition(
            kind,
            finding.status,
            finding.reason,
            finding.message,
            generation=facts.llmservice.generation,
            previous=previous,
            now=now,
        )
        for kind, finding in findings.items()
        if finding is not None
    ]
