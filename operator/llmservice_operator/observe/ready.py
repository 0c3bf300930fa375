"""Ready, Reconciling, Stalled and the phase: the summary of all other conditions.

Reconciling and Stalled exclude each other and are there only when True, so that kstatus, Flux and Helm see "in
progress", "failed" and "current" as they are.
"""

from llmservice_operator.conditions import ConditionType, Phase, Reason
from llmservice_operator.diagnosis import pods
from llmservice_operator.observe.degraded import held, rolled_back
from llmservice_operator.observe.finding import Finding, bad
from llmservice_operator.observe.model_cached import model_cached
from llmservice_operator.observe.progress import verification
from llmservice_operator.observe.situation import Situation


def ready(situation: Situation) -> Finding:
    """Return what the condition Ready says: True only when all that the spec asks for is there."""
    if situation.llmservice.metadata.deletion_timestamp is not None:
        return Finding("False", Reason.DELETING, "Wait: the children are being collected")
    if situation.problems:
        first = situation.problems[0]
        return Finding("False", Reason(first.reason), first.message)
    if situation.llmservice.spec.suspend:
        return _suspended(situation)
    if situation.is_rolled_back:
        return Finding("False", Reason.ROLLED_BACK, rolled_back(situation))
    if situation.troubles:
        return bad(situation.troubles[0])
    if not situation.is_cached:
        return model_cached(situation)
    return _rolled_out(situation)


def _suspended(situation: Situation) -> Finding:
    refused = next((trouble for trouble in situation.troubles if trouble.home == "ConfigurationValid"), None)
    if refused is not None:
        return bad(refused)
    deployment = situation.children.deployment
    if deployment is not None and (deployment["spec"].get("replicas") != 0 or situation.rollout.replicas):
        return Finding("False", Reason.REPLICAS_NOT_READY, "Wait: the replicas are being stopped")
    return Finding("True", Reason.SUSPENDED, "Set spec.suspend to false to start the replicas again")


def _rolled_out(situation: Situation) -> Finding:
    rollout = situation.rollout
    if rollout.is_held:
        return Finding("False", Reason.ROLLOUT_HELD, held(situation))
    if situation.llmservice.spec.paused and not rollout.is_current:
        return Finding("False", Reason.ROLLOUT_IN_PROGRESS, "Set spec.paused to false: the spec is not carried out yet")
    if situation.ready_pods and not rollout.is_rolled_out:
        return Finding("False", Reason.ROLLOUT_IN_PROGRESS, "Wait: replicas of the new revision replace the old ones")
    if not rollout.is_complete or situation.children.service is None:
        return Finding("False", Reason.REPLICAS_NOT_READY, "Wait: not every replica is ready")
    if situation.is_suspended:
        return Finding("True", Reason.SUSPENDED, "Raise spec.replicas to start replicas")
    return Finding("True", Reason.ALL_REPLICAS_READY, "Every replica is ready")


def stalled(situation: Situation) -> Finding | None:
    """Return what the condition Stalled says, or None while something can still move by itself."""
    if situation.llmservice.metadata.deletion_timestamp is not None:
        return None
    if situation.problems:
        first = situation.problems[0]
        return Finding("True", Reason(first.reason), first.message)
    if situation.is_rolled_back and situation.rollout.is_complete:
        return Finding("True", Reason.ROLLED_BACK, rolled_back(situation))
    if situation.rollout.is_held and not situation.is_suspended:
        return Finding("True", Reason.ROLLOUT_HELD, held(situation))
    finding = ready(situation)
    if finding.status == "True":
        return None
    blocking = next((trouble for trouble in situation.troubles if trouble.blocks), None)
    if blocking is None or (blocking.home is ConditionType.SCHEDULED and situation.is_waiting_for_place):
        return None
    return Finding("True", blocking.reason, blocking.message)


def reconciling(situation: Situation) -> Finding | None:
    """Return what the condition Reconciling says, or None when nothing moves: all is there, or Stalled, or paused."""
    if situation.llmservice.metadata.deletion_timestamp is not None:
        return Finding("True", Reason.DELETING, "The children are being collected")
    if stalled(situation) is not None or ready(situation).status == "True" or _is_left_alone(situation):
        return None
    if situation.llmservice.spec.suspend:
        return Finding("True", Reason.SCALING, "The replicas are being stopped")
    if not situation.is_cached:
        return Finding("True", Reason.CACHING, "The model is being cached")
    if situation.is_rolled_back:
        return Finding("True", Reason.ROLLING_BACK, "The last good revision is being put back")
    return _moving(situation)


def _is_left_alone(situation: Situation) -> bool:
    """Whether something is missing that a paused operator does not make."""
    return situation.llmservice.spec.paused and not (situation.is_cached and situation.rollout.is_current)


def _moving(situation: Situation) -> Finding:
    rollout = situation.rollout
    mine = pods.server_pods(situation.children)
    if any(not pods.is_scheduled(pod) for pod in mine):
        return Finding("True", Reason.SCHEDULING, "Pods wait for a node")
    if verification(situation) is not None:
        return Finding("True", Reason.VERIFYING, "A replica answers the prompts that it is verified with")
    if situation.ready_pods == 0:
        return Finding("True", Reason.STARTING, "The first replica is starting")
    if not rollout.is_rolled_out:
        return Finding("True", Reason.ROLLING_OUT, "Replicas of the new revision replace the old ones")
    return Finding("True", Reason.SCALING, "The number of ready replicas follows the number asked for")


_PHASES = {
    Reason.DELETING: Phase.DELETING,
    Reason.CACHING: Phase.CACHING,
    Reason.SCHEDULING: Phase.SCHEDULING,
    Reason.STARTING: Phase.STARTING,
    Reason.VERIFYING: Phase.VERIFYING,
    Reason.ROLLING_OUT: Phase.UPDATING,
    Reason.ROLLING_BACK: Phase.ROLLING_BACK,
    Reason.SCALING: Phase.UPDATING,
}


def phase(situation: Situation) -> Phase:
    """Return the state in one word, for people."""
    moving, summary = reconciling(situation), ready(situation)
    if moving is not None and moving.reason is Reason.DELETING:
        return Phase.DELETING
    if summary.status == "True":
        return Phase.SUSPENDED if situation.is_suspended else Phase.SERVING
    if stalled(situation) is not None:
        return Phase.DEGRADED if situation.ready_pods else Phase.FAILED
    if moving is None:
        return Phase.PENDING
    if situation.ready_pods and moving.reason in (Reason.CACHING, Reason.SCHEDULING):
        return Phase.UPDATING
    return _PHASES[moving.reason]
