"""What people do to a service, each with what has to be true at its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.campaign.run import NAME, Run
from tests.support import fates
from tests.support.stage import autoscaled, llmservice

Manifest = dict[str, Any]
OTHER_PROFILE: Manifest = {"maxTokens": 512, "requests": {"cpu": "3", "memory": "8Gi"}}
APPLY_UPDATE = {"metadata": {"annotations": {"llmservice.dev/apply-update": "1"}}}
SPECS: dict[str, Manifest] = {
    "six lines": {},
    "two replicas": {"replicas": 2},
    "kept cache": {"cache": {"reclaimPolicy": "Retain", "size": "2Gi"}},
    "autoscaled": {"scaling": autoscaled(minimum=1, maximum=3)},
    "guarded": {"disruption": {"maxUnavailable": 1}, "networkPolicy": {"mode": "Offline"}},
    "with keys": {"auth": {"mode": "APIKey", "apiKeysSecretRef": {"name": "keys"}}},
    "recreated": {"rollout": {"strategy": "Recreate"}},
    "by hand": {"upgradePolicy": {"mode": "Auto"}, "rollout": {"onFailure": "Rollback", "revisionHistoryLimit": 1}},
    "verified": {"rollout": {"verification": {"prompts": [{"prompt": "1 + 1 =", "expectAnyOf": ["2"]}]}}},
    "without a cache": {"model": {"source": {"pvc": {"claimName": "models"}}}},
}
"""Specs that have other children, or go other ways."""


@dataclass(frozen=True)
class Scenario:
    """`act` is what the operator may die in; `prepare` comes before."""

    name: str
    prepare: Callable[[Run], Awaitable[None]]
    act: Callable[[Run], Awaitable[None]]
    fits: Callable[[Manifest], bool] = lambda spec: True


async def _nothing(run: Run) -> None:
    """Begin with an empty namespace."""


async def _create(run: Run) -> None:
    await run.api.create(llmservice(NAME, **run.spec))
    await run.reaches("Ready", "True")


async def _edit(run: Run) -> None:
    await run.merge({"spec": {"engine": {"maxModelLen": 2048}}})
    await run.reaches("Ready", "True")


async def _upgrade(run: Run) -> None:
    before = await run.revision()
    run.operator.restart(profile=OTHER_PROFILE)
    if run.spec.get("upgradePolicy", {}).get("mode") != "Auto":
        await run.reaches("UpdatePending", "True")
        await run.merge(APPLY_UPDATE)
    await run.leaves(before)
    await run.reaches("UpdatePending", "False")
    await run.reaches("Ready", "True")


async def _roll_back(run: Run) -> None:
    good = await run.revision()
    crash = fates.crashes()
    run.node.fate = lambda pod: None if _revision(pod) in (None, good) else crash
    await run.merge({"spec": {"engine": {"maxModelLen": 2048}}})
    await run.reaches("Stalled", "True", "RolledBack")


def _revision(pod: Manifest) -> str | None:
    revision: str | None = pod["metadata"]["labels"].get("llmservice.dev/revision")
    return revision


async def _scale(run: Run) -> None:
    await run.merge({"spec": {"replicas": 3}})
    await run.reaches("Ready", "True")


async def _suspend(run: Run) -> None:
    await run.merge({"spec": {"suspend": True}})
    await run.reaches("Ready", "True", "Suspended")
    await run.merge({"spec": {"suspend": False}})
    await run.reaches("Ready", "True", "AllReplicasReady")


async def _delete(run: Run) -> None:
    await run.api.delete("LLMService", NAME)
    await run.is_gone()


async def _loosen(run: Run) -> None:
    await run.merge({"spec": {"disruption": None, "networkPolicy": None}})
    await run.reaches("Ready", "True")


async def _exchange(run: Run) -> None:
    """Take another model on another volume; with a history of one, the first revision is not kept either."""
    await run.merge({"spec": {"engine": {"maxModelLen": 2048}}})
    await run.reaches("Ready", "True")
    other = {"model": {"source": {"huggingFace": {"repo": "acme/other"}}}, "cache": {"accessMode": "ReadWriteMany"}}
    await run.merge({"spec": other})
    await run.reaches("ModelCached", "True")
    await run.reaches("Ready", "True")


LOOSEN = Scenario("loosen", _create, _loosen)
EXCHANGE = Scenario("exchange", _create, _exchange)
"""Two in which the operator deletes what it does not in the others."""
SCENARIOS = (
    Scenario("create", _nothing, _create),
    Scenario("edit", _create, _edit),
    Scenario("upgrade", _create, _upgrade),
    Scenario("rollback", _create, _roll_back),
    Scenario("scale", _create, _scale, fits=lambda spec: "scaling" not in spec),
    Scenario("suspend", _create, _suspend),
    Scenario("delete", _create, _delete),
)


def pairs() -> Iterator[tuple[Scenario, str]]:
    """Yield every scenario with the name of every spec that it can be played with."""
    for spec in SPECS:
        for scenario in SCENARIOS:
            if scenario.fits(SPECS[spec]):
                yield scenario, spec
