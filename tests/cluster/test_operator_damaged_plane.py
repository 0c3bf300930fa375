"""A control plane that loses its history, its space, or our resource definition: faults F12, F18 and F19.

It is one of its own, for what is done here would hurt other tests.
"""

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from llmservice_operator import settings
from llmservice_operator.process import Operator
from tests.support import etcd
from tests.support.api import Api, Manifest, writes
from tests.support.api_proxy import WATCHED, Call, Faults, api_proxy, refusal
from tests.support.controlplane import CRD_FILE, ControlPlane, control_plane
from tests.support.running_operator import SETTINGS, running_operator
from tests.support.stage import llmservice, make_pods_ready, pods, serve, wait_condition

CRD = "llmservices.llmservice.dev"
SPACE_BYTES = 32 * 2**20
SEEN_SECONDS = 20.0
"""A watch that fails is tried again after ten seconds at most."""
HEALED_SECONDS = 30.0
COLLECTED_SECONDS = 90.0
"""The garbage collector looks every 30 s for kinds that came or went."""
FAILING_SECONDS = 5.0
MOST_PER_SECOND = 5


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One whose etcd is soon full."""
    directory = tmp_path_factory.mktemp("damaged")
    with control_plane(directory, etcd=[f"--quota-backend-bytes={SPACE_BYTES}"]) as plane:
        yield plane


class CutOff(Faults):
    """Neither lists nor watches anything while it is on; tells how often a watch came too late."""

    def __init__(self) -> None:
        self.is_on = False
        self.too_late = 0

    async def instead(self, call: Call, request: web.Request) -> web.StreamResponse | None:
        """Refuse to list and to watch."""
        return refusal(503) if self.is_on and call.verb in ("list", "watch") else None

    async def events(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass every event on."""
        async for line in lines:
            self.too_late += b'"code":410' in line
            yield line


async def _affinity_is_ours(api: Api) -> bool:
    return bool((await api.get("Service", "llama"))["spec"]["sessionAffinity"] == "None")


@pytest.mark.timeout(240)
async def test_f12_what_happened_before_etcd_was_compacted_is_seen_by_a_new_list(plane: ControlPlane, api: Api) -> None:
    faults = CutOff()
    async with api_proxy(plane, faults) as proxy, running_operator(proxy.kubeconfig, api.namespace):
        await api.create(llmservice("llama"))
        await serve(api, "llama")
        faults.is_on = True
        proxy.cut(WATCHED)
        await api.merge("Service", "llama", {"spec": {"sessionAffinity": "ClientIP"}})
        await api.delete("ServiceAccount", "llama-llmservice")
        etcd.compact(plane)
        # It has the last events in memory, too.
        plane.stop_component("kube-apiserver")
        plane.start_component("kube-apiserver")
        plane.wait_ready()
        faults.is_on = False
        await api.eventually("the Service is as it was", lambda: _affinity_is_ours(api), SEEN_SECONDS)
        back = lambda: api.find("ServiceAccount", "llama-llmservice")  # noqa: E731
        await api.eventually("the service account is back", back, SEEN_SECONDS)
        assert faults.too_late >= 1


@pytest.mark.timeout(240)
async def test_f19_while_etcd_is_full_what_serves_is_left_and_the_log_says_why(plane: ControlPlane, api: Api) -> None:
    failed = {"verb": "PATCH", "code": "500"}
    with capture_logs() as log:
        async with running_operator(plane.kubeconfig, api.namespace):
            await api.create(llmservice("llama"))
            await serve(api, "llama")
            async with _full(plane, api):
                before, counted = len(writes(plane, api.namespace)), _requests(failed)
                await api.delete("ServiceAccount", "llama-llmservice")
                await asyncio.sleep(FAILING_SECONDS)
                tried = writes(plane, api.namespace)[before:]
                assert 0 < len(tried) <= MOST_PER_SECOND * FAILING_SECONDS
                assert {line.split()[-1] for line in tried} == {"500"}
                assert _requests(failed) > counted
                assert any("database space exceeded" in str(entry.get("error")) for entry in log)
                assert len(await pods(api, "llama", "server")) == 1
            back = lambda: api.find("ServiceAccount", "llama-llmservice")  # noqa: E731
            await api.eventually("the service account is back", back, HEALED_SECONDS)
            await wait_condition(api, "llama", "Ready", "True")


@contextlib.asynccontextmanager
async def _full(plane: ControlPlane, api: Api) -> AsyncIterator[None]:
    """Let etcd be full while the body runs."""
    try:
        await _fill(api)
        assert [alarm["alarm"] for alarm in etcd.alarms(plane)] == ["NOSPACE"]
        yield
    finally:
        for filler in await api.all("ConfigMap", "filler=true"):
            await api.delete("ConfigMap", filler["metadata"]["name"])
        etcd.make_room(plane)


def _requests(labels: dict[str, str]) -> float:
    return REGISTRY.get_sample_value("llmservice_operator_api_request_duration_seconds_count", labels) or 0.0


async def _fill(api: Api) -> None:
    """Write until etcd takes no more."""
    header = {"apiVersion": "v1", "kind": "ConfigMap"}
    with contextlib.suppress(httpx.HTTPStatusError):
        for number in itertools.count():
            metadata = {"name": f"filler-{number}", "labels": {"filler": "true"}}
            await api.create({**header, "metadata": metadata, "data": {"filler": "x" * 900_000}})


@pytest.mark.timeout(300)
async def test_f18_without_our_resource_definition_the_operator_waits_and_goes_on_when_it_is_back(
    plane: ControlPlane, api: Api
) -> None:
    elsewhere = f"test-{uuid.uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", elsewhere)
    later = Operator(settings.parse({**SETTINGS, "watchNamespaces": [elsewhere]}), plane.kubeconfig, None)
    async with Api(plane, elsewhere) as other, running_operator(plane.kubeconfig, api.namespace) as running:
        await api.create(llmservice("llama", cache={"reclaimPolicy": "Retain"}))
        await serve(api, "llama")
        before = await api.get("Deployment", "llama")
        await asyncio.to_thread(plane.kubectl, "delete", "crd", CRD)
        # Another one starts without it.
        starting = asyncio.create_task(later.run())
        try:
            await asyncio.sleep(FAILING_SECONDS)
            assert not later.is_ready.is_set()
            assert not running.done()
            assert not starting.done()
            assert await api.find("PersistentVolumeClaim", "llama-cache") is not None
            await asyncio.to_thread(plane.kubectl, "apply", "--server-side", "--filename", str(CRD_FILE))
            await asyncio.to_thread(plane.wait_established, CRD)
            async with asyncio.timeout(SEEN_SECONDS):
                await later.is_ready.wait()
            for each in (api, other):
                await each.create(llmservice("llama", cache={"reclaimPolicy": "Retain"}))
            await wait_condition(other, "llama", "ModelCached", "False", within_seconds=SEEN_SECONDS)
            await api.eventually("another Deployment", lambda: _is_another(api, before), COLLECTED_SECONDS)
            await make_pods_ready(api, "llama")
            await wait_condition(api, "llama", "Ready", "True")
        finally:
            starting.cancel()
            await asyncio.wait([starting])


async def _is_another(api: Api, before: Manifest) -> bool:
    found = await api.find("Deployment", "llama")
    return found is not None and found["metadata"]["uid"] != before["metadata"]["uid"]
