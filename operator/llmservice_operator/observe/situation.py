"""One LLMService as it is: the facts that all conditions are decided from, gathered once."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from llmservice_operator import names
from llmservice_operator.children import Children, Refusal
from llmservice_operator.conditions import ConditionType, Reason
from llmservice_operator.desired import model_facts
from llmservice_operator.desired.cached_model import CachedModel, cached_model, served_model
from llmservice_operator.desired.configuration import Problem, problems
from llmservice_operator.desired.effective import Effective, effective
from llmservice_operator.desired.fit import unfit
from llmservice_operator.desired.model_facts import ModelFacts
from llmservice_operator.desired.rollback import Choice, choose
from llmservice_operator.diagnosis import pods, refused_pods
from llmservice_operator.diagnosis.trouble import Trouble, printable
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import jobs, volumes
from llmservice_operator.observe.rollout import Rollout
from llmservice_operator.schema import LLMService
from llmservice_operator.settings import Settings


@dataclass(frozen=True)
class Situation:
    """The spec, what is there, and what is wrong."""

    llmservice: LLMService
    children: Children
    problems: tuple[Problem, ...]
    values: Effective | None
    """None while the profile is not there."""
    cache: CachedModel | None
    """None without a profile, and for a model that is mounted as it is."""
    facts: ModelFacts | None
    """The model that pods load now."""
    choice: Choice | None
    """The revision asked for and the one that is to run; None while there is no model to load."""
    rollout: Rollout
    troubles: tuple[Trouble, ...]
    """The one that holds back the most first."""
    now: datetime

    @property
    def is_suspended(self) -> bool:
        """Whether no replica is asked for."""
        return self.llmservice.spec.suspend or (
            self.llmservice.spec.scaling is None and self.llmservice.spec.replicas == 0
        )

    @property
    def is_rolled_back(self) -> bool:
        """Whether the revision asked for is rejected and the last good one runs, or is on its way."""
        return self.choice is not None and self.choice.is_rolled_back

    @property
    def is_waiting_for_place(self) -> bool:
        """Whether a rollout has something left to try for a replica without a place."""
        return self.choice is not None and self.choice.strategy.patience is not None

    @property
    def is_cached(self) -> bool:
        """Whether the model that the spec asks for can be loaded."""
        return self.values is not None and (self.cache is None or self.cache.facts is not None)

    @cached_property
    def ready_pods(self) -> int:
        """Pods, of whatever revision, that get requests."""
        return sum(pods.is_ready(pod) for pod in pods.server_pods(self.children))

    def trouble(self, home: ConditionType) -> Trouble | None:
        """Return the first trouble that the condition `home` has to tell."""
        return next((trouble for trouble in self.troubles if trouble.home is home), None)


def situation(llmservice: LLMService, children: Children, settings: Settings, now: datetime) -> Situation:
    """Return the facts about `llmservice`."""
    profile = settings.profile(llmservice.spec.profile)
    values = None if profile is None else effective(llmservice, profile, settings)
    cache = None if values is None else cached_model(llmservice, values, children)
    facts = None if values is None else served_model(llmservice, cache, children)
    choice = None
    if values is not None and facts is not None:
        choice = choose(llmservice, values, facts, cache, settings, children, now)
        facts = model_facts.of_template(choice.target.template)
    rollout = Rollout.of(llmservice, children, None if choice is None else choice.target.name)
    asked_for = None if cache is None else cache.facts
    too_much = () if values is None else unfit(llmservice, values, cache, asked_for)
    return Situation(
        llmservice=llmservice,
        children=children,
        problems=(*problems(llmservice, settings), *too_much),
        values=values,
        cache=cache,
        facts=facts,
        choice=choice,
        rollout=rollout,
        troubles=tuple(_troubles(llmservice, children, cache, choice, rollout)),
        now=now,
    )


def _troubles(
    llmservice: LLMService, children: Children, cache: CachedModel | None, choice: Choice | None, rollout: Rollout
) -> list[Trouble]:
    """Return what is wrong, in the order in which it has to be cured."""
    found: list[Trouble | None] = [
        *(_refused(refusal, cache) for refusal in children.refusals),
        Trouble(Reason.REVISION_NOT_KEPT, choice.complaint) if choice is not None and choice.complaint else None,
        _without_images(children.deployment),
        volumes.trouble(cache, children.events) if cache is not None else None,
        jobs.trouble(llmservice, cache, children) if cache is not None else None,
        refused_pods.of_deployment(children.deployment),
        *(pods.trouble(pod, names.SERVER_CONTAINER, children.events) for pod in _telling(children, rollout)),
    ]
    return [trouble for trouble in found if trouble is not None]


def _without_images(deployment: Manifest | None) -> Trouble | None:
    """Return that the API server left the model's volume out, which it does without a word where it knows none of the
    kind.
    """
    facts = model_facts.of_deployment(deployment)
    if deployment is None or facts is None or facts.source != "image":
        return None
    if any("image" in volume for volume in deployment["spec"]["template"]["spec"].get("volumes", ())):
        return None
    return Trouble(
        Reason.REJECTED_BY_SERVER,
        "Enable the feature gate ImageVolume in the API server and the kubelets, or choose another source than image: "
        "this cluster has no image volumes",
    )


def _telling(children: Children, rollout: Rollout) -> list[Manifest]:
    """Return the pods of the revision asked for, or of all while it has none: old ones are on their way out."""
    mine = sorted(pods.server_pods(children), key=lambda pod: str(pod["metadata"]["name"]))
    return [pod for pod in mine if pods.revision(pod) == rollout.wanted_revision] or mine


def _refused(refusal: Refusal, cache: CachedModel | None) -> Trouble:
    reason, said = refusal.reason, printable(refusal.message)
    if reason == Reason.REJECTED_BY_SERVER and cache is not None and refusal.kind == "PersistentVolumeClaim":
        return volumes.refused(cache, said)
    if reason == Reason.QUOTA_EXCEEDED:
        return Trouble(Reason.QUOTA_EXCEEDED, f"Free or raise the namespace's quota: {said}")
    if reason == Reason.CHILD_NAME_CONFLICT:
        return Trouble(Reason.CHILD_NAME_CONFLICT, said)
    if reason == Reason.OPERATOR_FORBIDDEN:
        return Trouble(Reason.OPERATOR_FORBIDDEN, f"Give the operator its right back, as deploy/ has it: {said}")
    return Trouble(Reason.REJECTED_BY_SERVER, f"Correct the spec: {said}")
