"""How far a download or a rollout is: for people, in numbers that are kept out of every message."""

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from llmservice_operator.children import Children
from llmservice_operator.desired.cached_model import CachedModel, pods_of
from llmservice_operator.diagnosis.pods import is_over, is_ready, revision, server_pods
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe.situation import Situation


class _Progress(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    done: NonNegativeInt
    total: NonNegativeInt
    unit: str
    eta_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class _Report(BaseModel):
    """The part of /internal/v1/state that is shown."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    phase: str
    progress: _Progress | None = None


@dataclass(frozen=True)
class Steps:
    """How many of the steps are done."""

    done: int
    total: int


@dataclass(frozen=True)
class Bytes:
    """How much of a download is done, and how long the rest will take, where that is known."""

    done: int
    total: int
    seconds_left: int | None = None

    @property
    def percent(self) -> int:
        """Whole percent, rounded down: 100 means all."""
        return min(100, 100 * self.done // self.total)

    @property
    def per_second(self) -> int | None:
        """The rate since the download began."""
        return (self.total - self.done) // self.seconds_left if self.seconds_left else None


def warmup_phase(cache: CachedModel, children: Children) -> str | None:
    """Return the phase that the running warm-up reported last."""
    report = _report(cache, children)
    return report.phase if report else None


def warmup_bytes(cache: CachedModel, children: Children) -> Bytes | None:
    """Return how far the running warm-up is, if it has said so."""
    report = _report(cache, children)
    if report is None or report.progress is None or report.progress.unit != "bytes" or report.progress.total == 0:
        return None
    left = report.progress.eta_seconds
    return Bytes(report.progress.done, report.progress.total, None if left is None else math.ceil(left))


def progress(situation: Situation) -> str | None:
    """Return the text of the column Progress, or None when nothing is under way."""
    if situation.cache is not None and not situation.is_cached:
        done = warmup_bytes(situation.cache, situation.children)
        return _downloaded(done) if done else None
    rollout = situation.rollout
    is_asked_for = not situation.problems and not situation.is_suspended
    verifying = verification(situation)
    if verifying is not None:
        return f"verify {verifying.done}/{verifying.total}"
    if is_asked_for and rollout.is_observed and not rollout.is_rolled_out:
        return f"rollout {rollout.updated_replicas}/{rollout.wanted_replicas}"
    return None


def _downloaded(done: Bytes) -> str:
    if not done.seconds_left:
        return f"cache {done.percent}%"
    hours, minutes = divmod(-(-done.seconds_left // 60), 60)
    left = f"{done.seconds_left}s" if done.seconds_left < 60 else f"{hours}h{minutes}m" if hours else f"{minutes}m"
    return f"cache {done.percent}%, {left} left"


def verification(situation: Situation) -> Steps | None:
    """Return how many golden prompts the replica has answered that verifies and is behind all others; None without
    one.
    """
    wanted = situation.rollout.wanted_revision
    mine = [pod for pod in server_pods(situation.children) if revision(pod) == wanted and not is_ready(pod)]
    found = [_said(pod, situation.children) for pod in mine]
    steps = [said.progress for said in found if said and said.phase == "Verifying" and said.progress]
    return min((Steps(step.done, step.total) for step in steps), key=lambda step: step.done, default=None)


def _said(pod: Manifest, children: Children) -> _Report | None:
    """Return what a pod reported; it comes from a pod, so it may be anything."""
    try:
        return _Report.model_validate(children.reports.get(pod["metadata"]["name"]))
    except ValidationError:
        return None


def _report(cache: CachedModel, children: Children) -> _Report | None:
    """Return what the running pod of the Job reported."""
    if cache.job is None or cache.facts is not None:
        return None
    running = [pod for pod in pods_of(cache.job, children.pods) if not is_over(pod)]
    told = [pod for pod in reversed(running) if pod["metadata"]["name"] in children.reports]
    return _said(told[0], children) if told else None
