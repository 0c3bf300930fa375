"""What should exist around one LLMService: `desired` is a pure function of its spec, its children, the settings and the
time.
"""

from dataclasses import dataclass
from datetime import datetime

from llmservice_operator.children import Children
from llmservice_operator.desired import config_map, model_facts, prune, verification
from llmservice_operator.desired.cached_model import CachedModel, cached_model, served_model
from llmservice_operator.desired.configuration import problems
from llmservice_operator.desired.deployment import deployment
from llmservice_operator.desired.effective import effective
from llmservice_operator.desired.fit import unfit
from llmservice_operator.desired.horizontal_pod_autoscaler import horizontal_pod_autoscaler
from llmservice_operator.desired.network_policies import network_policies
from llmservice_operator.desired.persistent_volume_claim import persistent_volume_claim
from llmservice_operator.desired.pod_disruption_budget import pod_disruption_budget
from llmservice_operator.desired.replicas import fixed_replicas, is_autoscaled, replicas_handover
from llmservice_operator.desired.revisions import Revision, controller_revision
from llmservice_operator.desired.rollback import Choice, can_load, choose, good_revisions
from llmservice_operator.desired.service import service
from llmservice_operator.desired.service_account import service_account
from llmservice_operator.desired.sweep import sweep
from llmservice_operator.desired.warmup import warmup
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from llmservice_operator.settings import Settings

__all__ = ["Desired", "desired", "earliest"]


@dataclass(frozen=True)
class Desired:
    """What to write, in order: the hand-over of replicas, the manifests, the deletions."""

    manifests: tuple[Manifest, ...] = ()
    """Complete bodies for server-side apply: NetworkPolicies, ServiceAccount, PVC, ConfigMaps, Jobs,
    ControllerRevision, Deployment, Service, HorizontalPodAutoscaler, PodDisruptionBudget.
    """
    replicas_handover: Manifest | None = None
    """A partial Deployment for the second field manager, to be applied before the Deployment itself."""
    deletions: tuple[Manifest, ...] = ()
    """Live objects to delete, with their uid and resourceVersion as preconditions."""
    wake_after_seconds: float | None = None
    """When to ask again although nothing happened; None: only when something does."""


def desired(llmservice: LLMService, children: Children, settings: Settings, now: datetime) -> Desired:
    """Return what should exist around `llmservice`.

    Nothing is written while it is being deleted or paused. Nor with a spec that cannot be carried out: what its last
    good spec made stays as it is.
    """
    profile = settings.profile(llmservice.spec.profile)
    is_left_alone = llmservice.spec.paused or llmservice.metadata.deletion_timestamp is not None
    if is_left_alone or profile is None or problems(llmservice, settings):
        return Desired()
    values = effective(llmservice, profile, settings)
    cache = cached_model(llmservice, values, children)
    facts = served_model(llmservice, cache, children)
    jobs = warmup(llmservice, values, cache, children, now)
    # Without a model on a volume, or with one that does not fit, no pod could load it, so none may ask for a GPU: what
    # runs goes on. Whoever suspends asks for no pod, and is not kept waiting.
    is_held_back = not llmservice.spec.suspend and bool(unfit(llmservice, values, cache, facts))
    choice = None
    if facts is not None and not is_held_back:
        choice = choose(llmservice, values, facts, cache, settings, children, now)
    swept = sweep(llmservice, values, cache, choice, children, now)
    volumes = [] if cache is None or cache.is_shared else [persistent_volume_claim(llmservice, values, cache, swept)]
    configuration = [] if choice is None else _config_maps(llmservice, choice, children)
    kept = [] if choice is None else [_kept(llmservice, choice.wanted, cache)]
    replicas = fixed_replicas(llmservice, children, can_load=choice is not None and can_load(choice.target, cache))
    deployments = (
        [] if choice is None else [deployment(llmservice, choice.target.template, choice.strategy.manifest, replicas)]
    )
    outdated = prune.surplus_revisions(llmservice, choice, children)
    scalers = [horizontal_pod_autoscaler(llmservice)] if deployments and is_autoscaled(llmservice) else []
    policies = network_policies(llmservice, settings)
    budgets = [] if llmservice.spec.disruption is None else [pod_disruption_budget(llmservice)]
    return Desired(
        manifests=(
            *policies,
            service_account(llmservice),
            *volumes,
            *configuration,
            *jobs.manifests,
            *swept.manifests,
            *kept,
            *deployments,
            service(llmservice),
            *scalers,
            *budgets,
        ),
        replicas_handover=replicas_handover(llmservice, children) if deployments and replicas is None else None,
        deletions=prune.not_going(
            [
                *jobs.deletions,
                *swept.deletions,
                *outdated,
                *prune.surplus_config_maps(configuration, outdated, children),
                *prune.surplus_claims(llmservice, cache, children),
                *prune.surplus_autoscaler(llmservice, children),
                *prune.surplus_disruption_budget(llmservice, children),
                *prune.surplus_network_policies(policies, children),
            ]
        ),
        wake_after_seconds=earliest(jobs.wake_after_seconds, swept.wake_after_seconds, *_rollout_seconds(choice)),
    )


def earliest(*seconds: float | None) -> float | None:
    """Return the least of what is given; None if nothing is."""
    return min((value for value in seconds if value is not None), default=None)


def _config_maps(llmservice: LLMService, choice: Choice, children: Children) -> list[Manifest]:
    """Return the ConfigMaps that the pods to come take their environment and their prompts from."""
    found = [config_map.of_data(llmservice, choice.target.environment)]
    if choice.target.prompts:
        found.append(config_map.of_data(llmservice, choice.target.prompts))
        found.append(verification.proven(llmservice, good_revisions(choice, children)))
    return found


def _kept(llmservice: LLMService, revision: Revision, cache: CachedModel | None) -> Manifest:
    facts = model_facts.of_template(revision.template)
    return controller_revision(llmservice, revision, cache.shapes.get(facts.key) if cache and facts else None)


def _rollout_seconds(choice: Choice | None) -> list[float]:
    """Return when a rollout may have to go in place, and when one may begin that waits for its window."""
    if choice is None:
        return []
    update = choice.pending_update
    waits = (choice.strategy.patience, None if update is None else update.wait)
    return [wait.total_seconds() for wait in waits if wait is not None]
