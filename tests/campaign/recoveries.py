"""After any error that an edit ends in, putting the old spec back brings the old state back, whatever is still wrong.

The errors of one spec come one after another on the same service; after one that it does not recover from, the rest
begins with a new one.
"""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from tests.campaign.errors import ErrorState, errors
from tests.campaign.fields import SIX_LINES
from tests.campaign.laboratory import Place, laboratory, service
from tests.campaign.outcome import Outcome
from tests.campaign.run import NAME
from tests.campaign.scenarios import SPECS
from tests.support.api import Api
from tests.support.controlplane import ControlPlane
from tests.support.played_node import Fate
from tests.support.stage import wait_condition

Manifest = dict[str, Any]
SHOWN_SECONDS: Final = 45.0
RECOVERED_SECONDS: Final = 30.0
OLD_SPECS: Final = {**SPECS, "held": {"rollout": {"onFailure": "Hold"}}}
"""What works before the error, and is to work again."""


async def outcomes(plane: ControlPlane, spec: str, among: Sequence[ErrorState] = ()) -> AsyncIterator[Outcome]:
    """Play every error that one of OLD_SPECS can come to, or those `among` which it can."""
    old = {**SIX_LINES, **OLD_SPECS[spec]}
    waiting = [(number, error) for number, error in enumerate(among or errors()) if error.fits(old)]
    while waiting:
        async with laboratory(plane, 1) as (place,):
            await place.api.create(service(old))
            await place.settles(f"the service {spec}")
            before = await place.quiet()
            is_well = True
            while waiting and is_well:
                number, error = waiting.pop(0)
                outcome = await _outcome(place, error, number, old, before)
                yield Outcome(f"{spec}, {error.name}", outcome.happened, outcome.complaint)
                is_well = not outcome.complaint


async def _outcome(place: Place, error: ErrorState, number: int, old: Manifest, before: str) -> Outcome:
    is_shown = False
    try:
        async with _setting(place.api, error.setting), _fates(place, error):
            await place.api.replace_spec("LLMService", NAME, error.change(old, number))
            await wait_condition(place.api, NAME, *error.shown(old), within_seconds=SHOWN_SECONDS)
            is_shown = True
            await place.api.replace_spec("LLMService", NAME, old)
            return Outcome(error.name, is_shown, await place.differs(before, RECOVERED_SECONDS))
    except Exception:  # noqa: BLE001 - an error that is not told is a finding, and the campaign goes on
        return Outcome(error.name, is_shown, traceback.format_exc()[-2000:])


@asynccontextmanager
async def _setting(api: Api, manifests: Sequence[Manifest]) -> AsyncIterator[None]:
    """Have objects of somebody else there while the body runs; a quota is in force when it begins."""
    async with AsyncExitStack() as stack:
        for manifest in manifests:
            await api.create(manifest)
            stack.push_async_callback(api.delete, manifest["kind"], manifest["metadata"]["name"])
            if manifest["kind"] == "ResourceQuota":
                await api.eventually("the quota is in force", lambda: _is_in_force(api))
        yield


async def _is_in_force(api: Api) -> bool:
    return "used" in (await api.get("ResourceQuota", "quota")).get("status", {})


@asynccontextmanager
async def _fates(place: Place, error: ErrorState) -> AsyncIterator[None]:
    """Let the pods that the error makes come to what it says, also while the old ones come back."""
    old = {pod["metadata"]["labels"].get("llmservice.dev/revision") for pod in await place.api.all("Pod")}

    def fate(pod: Manifest) -> Fate | None:
        labels = pod["metadata"]["labels"]
        if labels["app.kubernetes.io/component"] == "warmup":
            return error.warmup
        if labels["app.kubernetes.io/component"] == "sweep":
            return None
        return None if labels["llmservice.dev/revision"] in old else error.server

    place.node.fate = fate
    try:
        yield
    finally:
        place.node.fate = lambda pod: None
