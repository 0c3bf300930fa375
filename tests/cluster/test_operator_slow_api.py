"""An API server that takes ten seconds for every request, or refuses every second write: faults F07 and F13.

Other errors, on each verb and kind, are the campaign's (tests/campaign/api_errors). All times are a tenth here.
"""

import asyncio
from collections import Counter
from typing import Any

import pytest
from aiohttp import web

from llmservice_operator.cluster import client
from llmservice_operator.settings import Limits
from tests.support.api import Api
from tests.support.api_proxy import ApiProxy, Call, Faults, api_proxy, refusal
from tests.support.controlplane import ControlPlane
from tests.support.played_node import played_node
from tests.support.running_operator import SETTINGS, running_operator
from tests.support.stage import llmservice, pods, wait_condition

SCALE = 10
REQUEST_SECONDS = 10 / SCALE
DONE_SECONDS = 90.0
LONGER = {"spec": {"engine": {"maxModelLen": 2048}}}


class SlowApi(Faults):
    """Takes its time before it carries out whatever is not about a Lease, which has a queue of its own."""

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()
        self.most_at_once = 0
        """Of the requests about what is in the namespace, watches and their lists aside."""

    async def instead(self, call: Call, request: web.Request) -> web.StreamResponse | None:
        """Wait, and count who else does."""
        if call.resource == "leases":
            return None
        is_counted = call.is_write or call.verb == "get"
        self._under_way["counted"] += is_counted
        self.most_at_once = max(self.most_at_once, self._under_way["counted"])
        try:
            await asyncio.sleep(REQUEST_SECONDS)
        finally:
            self._under_way["counted"] -= is_counted
        return None


class EverySecondWriteConflicts(Faults):
    """Answers 409 to the first write, the third, the fifth."""

    def __init__(self) -> None:
        self._writes = 0

    async def instead(self, call: Call, request: web.Request) -> web.StreamResponse | None:
        """Refuse every second write."""
        if not call.is_write:
            return None
        self._writes += 1
        return refusal(409) if self._writes % 2 else None


@pytest.fixture
def configuration(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The default time limits, a tenth of each."""
    monkeypatch.setattr(client, "REQUEST_TIMEOUT_SECONDS", client.REQUEST_TIMEOUT_SECONDS / SCALE)
    limit = Limits().reconcile_timeout_seconds / SCALE
    return {**SETTINGS, "limits": {"reconcileTimeoutSeconds": limit}}


def _made_once(proxy: ApiProxy) -> bool:
    made = proxy.written.created
    return bool(made) and set(made.values()) == {1}


@pytest.mark.timeout(300)
async def test_f07_with_an_api_that_takes_ten_seconds_everything_is_done_once_and_later(
    plane: ControlPlane, namespace: str, configuration: dict[str, Any]
) -> None:
    faults = SlowApi()
    async with Api(plane, namespace) as api, played_node(api), api_proxy(plane, faults) as proxy:
        async with running_operator(proxy.kubeconfig, namespace, configuration=configuration):
            await api.create(llmservice("llama"))
            await wait_condition(api, "llama", "Ready", "True", within_seconds=DONE_SECONDS)
        await api.merge("LLMService", "llama", LONGER)
        # What was there at its start an operator looks at live before it writes.
        async with running_operator(proxy.kubeconfig, namespace, configuration=configuration):
            await wait_condition(api, "llama", "Ready", "True", within_seconds=DONE_SECONDS)
        assert _made_once(proxy), proxy.written.created
        assert len(await pods(api, "llama", "server")) == 1
    # One worker has the service; beside it are only kopf and Events, which are not counted.
    assert faults.most_at_once <= 2


async def test_f13_where_every_second_write_conflicts_each_is_made_once(plane: ControlPlane, namespace: str) -> None:
    faults = EverySecondWriteConflicts()
    async with Api(plane, namespace) as api, played_node(api), api_proxy(plane, faults) as proxy:
        async with running_operator(proxy.kubeconfig, namespace):
            await api.create(llmservice("llama"))
            await wait_condition(api, "llama", "Ready", "True", within_seconds=30)
            await api.merge("LLMService", "llama", LONGER)
            await wait_condition(api, "llama", "Ready", "True", within_seconds=30)
        assert _made_once(proxy), proxy.written.created
