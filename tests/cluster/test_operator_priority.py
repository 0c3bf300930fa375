"""An edit does not wait behind a storm."""

import asyncio

import pytest
from aiohttp import web

from tests.support.api import Api
from tests.support.api_proxy import Call, Faults, api_proxy
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import llmservice, serve, wait_condition

STORM = 40
WRITE_SECONDS = 0.15
"""So slow is the API server, so that the storm lasts."""
TURNS = 8 * 10
"""What the workers have in hand when the edit comes: each a reconcile of some ten writes."""


class SlowWrites(Faults):
    """Takes its time."""

    is_slow = False

    async def instead(self, call: Call, request: web.Request) -> web.StreamResponse | None:
        if self.is_slow and call.is_write:
            await asyncio.sleep(WRITE_SECONDS)
        return None


@pytest.mark.timeout(120)
async def test_an_edit_goes_before_a_storm_of_new_llmservices(plane: ControlPlane, namespace: str) -> None:
    faults = SlowWrites()
    async with (
        Api(plane, namespace) as api,
        api_proxy(plane, faults) as proxy,
        running_operator(proxy.kubeconfig, namespace),
    ):
        await api.create(llmservice("edited"))
        await serve(api, "edited")
        faults.is_slow = True
        for number in range(STORM):
            await api.create(llmservice(f"new-{number:02}"))
        proxy.clear()
        await api.merge("LLMService", "edited", {"spec": {"replicas": 0}})
        await wait_condition(api, "edited", "Ready", "True", "Suspended", within_seconds=60)
        before = [call.name for _, call in proxy.calls if call.is_write]
        await api.eventually("the storm goes on", lambda: _is_reached(api), within_seconds=60)
        after = sum(call.is_write for _, call in proxy.calls)
    first = before.index("edited")
    print(f"{first} writes of the storm between an edit and the first write for it, {after} in all")  # noqa: T201
    assert first <= TURNS


async def _is_reached(api: Api) -> bool:
    """Whether the last one of the storm was reconciled."""
    claims = await api.all("PersistentVolumeClaim")
    return len(claims) == 1 + STORM
