"""Bring the children of one LLMService to what its spec asks for, and report what is there.

Level-triggered: it compares states and trusts no earlier run. Every trigger, whatever it was, only leads here.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog
from structlog.contextvars import bound_contextvars

from llmservice_operator import transitions, troubles
from llmservice_operator.children import Children, Drift, Refusal
from llmservice_operator.cluster.interface import Applied, Cluster, LeftOverError, RefusedError
from llmservice_operator.cluster.resources import Key
from llmservice_operator.desired import Desired, desired, earliest
from llmservice_operator.desired.persistent_volume_claim import in_its_size
from llmservice_operator.diagnosis.deployments import live_revision
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import last_failure, observe
from llmservice_operator.observe.drifted import remembered_for
from llmservice_operator.progress import ProgressPoller
from llmservice_operator.rejection import rejection
from llmservice_operator.schema import InvalidLLMService, parse
from llmservice_operator.settings import Settings

logger = structlog.get_logger(__name__)

TROUBLED_SECONDS: Final = 3.0
"""How soon to look again at children whose trouble no watch reports."""
_UNDER_THE_PODS: Final = frozenset(
    {"NetworkPolicy", "ServiceAccount", "PersistentVolumeClaim", "ConfigMap", "ControllerRevision"}
)
_WITH_PODS: Final = frozenset({"Job", "Deployment"})


async def reconcile(
    key: Key, cluster: Cluster, poller: ProgressPoller, settings: Settings, now: datetime
) -> float | None:
    """Reconcile one LLMService once; return after how many seconds it must be looked at again though nothing changed.

    The status is written last: it says for the new generation only what was seen after that generation was applied.
    What cannot be seen again is kept before the pods that show it go.
    """
    owner = cluster.llmservice(key)
    if owner is None:
        poller.watch(key, ())
        return None
    meta = owner["metadata"]
    with bound_contextvars(llmservice=str(key), uid=meta["uid"], generation=meta.get("generation")):
        return await _reconcile(key, owner, cluster, poller, settings, now)


async def _reconcile(
    key: Key, owner: Manifest, cluster: Cluster, poller: ProgressPoller, settings: Settings, now: datetime
) -> float | None:
    try:
        llmservice = parse(owner)
    except InvalidLLMService as error:
        await _report(cluster, owner, rejection(owner, str(error), now))
        return None
    before = await cluster.children_of(owner)
    wanted = desired(llmservice, before, settings, now)
    if _replaces_pods(wanted, before):
        await _keep_last_failure(cluster, owner, last_failure(llmservice, before))
    written = await _carry_out(cluster, owner, wanted, before)
    children = await _observed(cluster, poller, key, owner, written, now)
    status = observe(llmservice, children, settings, now)
    await _report(cluster, owner, status)
    return earliest(
        wanted.wake_after_seconds, written.retry_after_seconds, _look_again(children), _forget_drift(status, now)
    )


def _replaces_pods(wanted: Desired, children: Children) -> bool:
    """Whether the Deployment is to get another template."""
    live = live_revision(children.deployment)
    revisions = [live_revision(manifest) for manifest in wanted.manifests if manifest["kind"] == "Deployment"]
    return live is not None and revisions not in ([], [live])


async def _keep_last_failure(cluster: Cluster, owner: Manifest, failure: Manifest | None) -> None:
    status = owner.get("status", {})
    if failure is not None:
        await cluster.apply_status(owner, {**status, "lastFailure": failure})


@dataclass(frozen=True)
class _Written:
    """What writing came to."""

    refusals: tuple[Refusal, ...]
    drifts: tuple[Drift, ...]
    retry_after_seconds: float | None


async def _carry_out(cluster: Cluster, owner: Manifest, wanted: Desired, before: Children) -> _Written:
    """Apply every child in order, then prune. One that cannot be written holds back only what needs it."""
    if wanted.replicas_handover is not None:
        await cluster.hand_over_replicas(owner, wanted.replicas_handover)
    missing: dict[str, RefusedError | LeftOverError] = {}
    drifts = []
    sizes: list[RefusedError] = []
    for manifest in wanted.manifests:
        if manifest["kind"] in _WITH_PODS and not missing.keys().isdisjoint(_UNDER_THE_PODS):
            continue
        try:
            applied, refused = await _applied(cluster, owner, manifest, before)
            drifts.append(applied.drift)
            sizes += [refused] if refused else []
        except (RefusedError, LeftOverError) as error:
            missing[manifest["kind"]] = error
    if not missing:
        for manifest in wanted.deletions:
            await cluster.delete(owner, manifest)
    return _Written(
        refusals=tuple(error.refusal for error in (*sizes, *missing.values()) if isinstance(error, RefusedError)),
        drifts=tuple(drift for drift in drifts if drift is not None),
        retry_after_seconds=earliest(*(error.retry_after_seconds for error in (*sizes, *missing.values()))),
    )


async def _applied(
    cluster: Cluster, owner: Manifest, manifest: Manifest, before: Children
) -> tuple[Applied, RefusedError | None]:
    """Apply one child; a claim that may not have the size asked for keeps the one it has, and nothing waits for it."""
    try:
        return await cluster.apply(owner, manifest), None
    except RefusedError as error:
        unchanged = in_its_size(manifest, before)
        if unchanged is None:
            raise
        return await cluster.apply(owner, unchanged), error


async def _observed(
    cluster: Cluster, poller: ProgressPoller, key: Key, owner: Manifest, written: _Written, now: datetime
) -> Children:
    """Return the children as they are after writing, with what only events and the pods themselves tell."""
    children = await cluster.children_of(owner)
    poller.watch(key, troubles.loading_pods(children))
    events = await cluster.events_about(troubles.troubled(children, now))
    return replace(
        children, events=events, reports=poller.reports(key), refusals=written.refusals, drifts=written.drifts
    )


async def _report(cluster: Cluster, owner: Manifest, status: Manifest) -> None:
    if await cluster.apply_status(owner, status):
        for notice in transitions.notices(owner.get("status", {}), status):
            cluster.record(owner, notice)
            log = logger.warning if notice.type == "Warning" else logger.info
            log("event recorded", action=notice.action, reason=notice.reason, message=notice.message)


def _forget_drift(status: Manifest, now: datetime) -> float | None:
    return remembered_for(status, now).total_seconds() or None


def _look_again(children: Children) -> float | None:
    return TROUBLED_SECONDS if troubles.looks_troubled_soon(children) else None
