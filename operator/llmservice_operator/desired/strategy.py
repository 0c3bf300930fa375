"""How the replicas of a revision replace the old ones: one more at a time, one for one, or all at once.

`Auto` starts one replica more than asked for (Surge), which costs no request. Where that one finds no place for a while
the rollout goes in place: an old replica makes room for a new one. It does so only where that can help: an old
replica's place that is too small, or elsewhere, would be given up for nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from llmservice_operator.children import Children
from llmservice_operator.desired.revisions import Revision
from llmservice_operator.diagnosis import pods, refused_pods, scheduler
from llmservice_operator.diagnosis.deployments import live_revision
from llmservice_operator.manifest import Manifest, condition
from llmservice_operator.schema import LLMService
from llmservice_operator.schema.quantity import amount

PATIENCE: Final = timedelta(seconds=30)
"""How long the extra replica may be without a place."""
_OCCUPIED = re.compile(r"Insufficient |Too many pods|free ports|anti-affinity|exceeded quota")
"""What the scheduler and the quota say where it is other pods that take the place."""
_MANIFESTS: Final[dict[str, Manifest]] = {
    "Surge": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    "InPlace": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
    "Recreate": {"type": "Recreate"},
}


@dataclass(frozen=True)
class Strategy:
    """The way of one rollout."""

    name: Literal["Surge", "InPlace", "Recreate"]
    reason: str = ""
    """Why `Auto` goes in place, or would not; empty where there is nothing to explain."""
    patience: timedelta | None = None
    """How much longer a replica without a place is waited for; None without one, or when there is nothing left to
    try."""

    @property
    def manifest(self) -> Manifest:
        """The Deployment's strategy."""
        return _MANIFESTS[self.name]


def strategy(llmservice: LLMService, revision: Revision, in_place: str, children: Children, now: datetime) -> Strategy:
    """Return how `revision` is rolled out; `in_place` is why its rollout has gone in place before, if it has."""
    asked_for = llmservice.spec.rollout.strategy
    if asked_for != "Auto":
        return Strategy(asked_for)
    wait = _wait(revision, children)
    if in_place:
        return Strategy("InPlace", in_place, PATIENCE if wait is not None and _is_one_leaving(children) else None)
    old = [pod for pod in pods.server_pods(children) if pods.revision(pod) != revision.name and pods.is_scheduled(pod)]
    if wait is None or not old:
        return Strategy("Surge")
    lack = _lack(revision.template, old)
    if lack:
        return Strategy("Surge", f"An old replica cannot make room: {lack}")
    left = wait.since + PATIENCE - now
    if left > timedelta():
        return Strategy("Surge", patience=left)
    return Strategy("InPlace", f"No place for one replica more: {wait.words}")


@dataclass(frozen=True)
class _Wait:
    """A replica that waits for a place which other pods take."""

    since: datetime
    words: str


def _wait(revision: Revision, children: Children) -> _Wait | None:
    mine = [pod for pod in pods.server_pods(children) if pods.revision(pod) == revision.name]
    said = [(condition(pod, "PodScheduled"), scheduler.of_pod(pod)) for pod in mine]
    if children.deployment is not None and live_revision(children.deployment) == revision.name:
        said.append((condition(children.deployment, "ReplicaFailure"), refused_pods.of_deployment(children.deployment)))
    waits = [
        _Wait(_moment(condition), trouble.message)
        for condition, trouble in said
        if trouble is not None and _OCCUPIED.search(trouble.message) and "lastTransitionTime" in condition
    ]
    if not waits:
        return None
    first = min(waits, key=lambda wait: wait.since)
    return _Wait(max([first.since, *_places_freed(mine)]), first.words)


def _places_freed(mine: Iterable[Manifest]) -> list[datetime]:
    """Return until when the old replica may hold its place that each ready one has replaced: it drains first."""
    return [
        _moment(condition(pod, "Ready")) + timedelta(seconds=pod["spec"].get("terminationGracePeriodSeconds", 0))
        for pod in mine
        if pods.is_ready(pod)
    ]


def _moment(condition: Manifest) -> datetime:
    return datetime.fromisoformat(condition["lastTransitionTime"])


def _is_one_leaving(children: Children) -> bool:
    return any(pods.is_over(pod) and pods.is_server(pod) for pod in children.pods)


def _lack(template: Manifest, old: Iterable[Manifest]) -> str:
    """Return what the place of each old replica lacks for one of `template`; empty if one will do."""
    found = ""
    for pod in old:
        if any(template["spec"].get(field) != pod["spec"].get(field) for field in ("nodeSelector", "affinity")):
            found = "the new one is to run on other nodes"
            continue
        short = _short_of(_requests(template), _requests(pod))
        if not short:
            return ""
        found = f"the new one asks for more {', '.join(short)}"
    return found


def _short_of(wanted: dict[str, str], given: dict[str, str]) -> list[str]:
    return sorted(name for name, quantity in wanted.items() if amount(quantity) > amount(given.get(name, "0")))


def _requests(pod: Manifest) -> dict[str, str]:
    """Return what the server asks for; a resource that has only a limit is asked for by that much."""
    resources = pod["spec"]["containers"][0].get("resources", {})
    return {**resources.get("limits", {}), **resources.get("requests", {})}
