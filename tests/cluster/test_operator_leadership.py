"""One replica of the operator writes, and another takes over: real processes that end, are killed, or stand still."""

import asyncio
import signal
import time
from asyncio.subprocess import Process
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.api import Api, writes_of
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import operator_process
from tests.support.stage import finish_warmup, llmservice, make_pods_ready, wait_condition

USERS = ("operator-a", "operator-b")
"""Each replica is a user of its own, so that the audit log tells who has written."""
ENDED_SECONDS, KILLED_SECONDS = 2.0, 10.0
STOPPED_SECONDS = 15.0
"""Longer than a Lease lasts. F02 asks for a minute: tests/campaign/frozen.py."""
QUIET_SECONDS = 5.0


@pytest.fixture
def kubeconfigs(plane: ControlPlane) -> dict[str, Path]:
    for user in USERS:
        role = plane.kubectl(
            *("create", "clusterrolebinding", user, "--clusterrole=cluster-admin", f"--user={user}"),
            *("--dry-run=client", "--output=json"),
        )
        plane.kubectl("apply", "--server-side", "--filename", "-", stdin=role)
    return {user: plane.kubeconfig_for(user) for user in USERS}


async def leader(api: Api) -> str:
    """Return who holds the Lease; empty while nobody does."""
    lease = await api.find("Lease", "llmservice-operator")
    return str((lease or {}).get("spec", {}).get("holderIdentity") or "")


async def another_leads(api: Api, before: str, within_seconds: float) -> float:
    """Wait for another leader than `before`; return after how many seconds it led."""
    began = time.monotonic()

    async def found() -> bool:
        return await leader(api) not in ("", before)

    await api.eventually("another leader", found, within_seconds)
    return time.monotonic() - began


@pytest.mark.timeout(180)
async def test_another_replica_takes_over_and_one_that_stood_still_writes_nothing(
    plane: ControlPlane, namespace: str, kubeconfigs: dict[str, Path], tmp_path: Path
) -> None:
    async with Api(plane, namespace) as api, AsyncExitStack() as stack:

        async def start(user: str, name: str) -> Process:
            folder = tmp_path / name
            folder.mkdir()
            running = operator_process(kubeconfigs[user], namespace, folder, is_replica=True)
            process = await stack.enter_async_context(running)

            async def is_synced() -> bool:
                return "every kind listed" in (folder / "operator.log").read_text()

            await api.eventually(f"{name} is synced", is_synced, 30)
            return process

        first = await start("operator-a", "first")
        await another_leads(api, "", KILLED_SECONDS)
        second = await start("operator-b", "second")
        await api.create(llmservice("llama"))
        await finish_warmup(api, "llama")
        await make_pods_ready(api, "llama")
        await wait_condition(api, "llama", "Ready", "True")

        before = await leader(api)
        first.send_signal(signal.SIGTERM)
        ended = await another_leads(api, before, ENDED_SECONDS)
        third, before = await start("operator-a", "third"), await leader(api)
        second.kill()
        killed = await another_leads(api, before, KILLED_SECONDS)

        await start("operator-b", "fourth")
        before = await leader(api)
        third.send_signal(signal.SIGSTOP)
        try:
            await api.merge("LLMService", "llama", {"spec": {"replicas": 2}})
            await another_leads(api, before, KILLED_SECONDS)
            await make_pods_ready(api, "llama", 2)
            await wait_condition(api, "llama", "Ready", "True")
            await asyncio.sleep(STOPPED_SECONDS - KILLED_SECONDS)
            written = writes_of(plane, "operator-a")
        finally:
            third.send_signal(signal.SIGCONT)
        await asyncio.sleep(QUIET_SECONDS)
        assert writes_of(plane, "operator-a")[len(written) :] == []
    print(f"the next leader: {ended:.1f} s after SIGTERM, {killed:.1f} s after SIGKILL")  # noqa: T201
