"""F02: the leading replica stands still for a minute amid its work, and goes on when another one has done it.

It is stopped at one of its writes, as that reaches the API server, while a service is created. What it asks for after
it goes on is seen by the proxy before it; of that nothing may be a write, whatever it had begun.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
import traceback
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from tests.campaign.outcome import Outcome
from tests.campaign.run import NAME, new_namespace
from tests.support.api import Api
from tests.support.api_proxy import Call, Faults, api_proxy
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import operator_process
from tests.support.played_node import played_node
from tests.support.stage import llmservice, wait_condition

STOPPED_SECONDS = 60.0
TAKEN_OVER_SECONDS = 10.0
READY_SECONDS = 45.0
QUIET_SECONDS = 5.0
"""Longer than it may write after a renewal of its Lease, had it not been stopped."""
WRITES = (1, 2, 4, 6, 8, 10, 12, 14)
READS = ("get", "list", "watch")


class Freeze(Faults):
    """Stops the process behind the proxy with its nth write."""

    def __init__(self, write: int):
        self._write = write
        self._writes = 0
        self.process: Process | None = None
        self.is_stopped = asyncio.Event()

    async def instead(self, call: Call, request: web.Request) -> web.StreamResponse | None:
        """Stop it; the write itself was sent and is carried out."""
        self._writes += call.is_write
        if self.process is not None and self._writes == self._write and not self.is_stopped.is_set():
            self.process.send_signal(signal.SIGSTOP)
            self.is_stopped.set()
        return None


async def outcomes(plane: ControlPlane, writes: Iterable[int]) -> AsyncIterator[Outcome]:
    """Play a stop at each of these writes."""
    for write in writes:
        freeze = Freeze(write)
        try:
            complaint = await _complaint(plane, freeze)
        except Exception:  # noqa: BLE001 - a play that fails is a finding, and the campaign goes on
            complaint = traceback.format_exc()[-2000:]
        yield Outcome(f"stopped at write {write}", freeze.is_stopped.is_set(), complaint)


async def _complaint(plane: ControlPlane, freeze: Freeze) -> str:
    namespace = await new_namespace(plane)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(Api(plane, namespace))
        await stack.enter_async_context(played_node(api))
        proxy = await stack.enter_async_context(api_proxy(plane, freeze))
        first = await _started(stack, api, proxy.kubeconfig)
        before = await api.eventually("a leader", lambda: _leader(api), TAKEN_OVER_SECONDS)
        await _started(stack, api, plane.kubeconfig)
        freeze.process = first
        await api.create(llmservice(NAME))
        async with asyncio.timeout(READY_SECONDS):
            await freeze.is_stopped.wait()
        try:
            until = time.monotonic() + STOPPED_SECONDS
            await api.eventually("another leader", _other_than(api, before), TAKEN_OVER_SECONDS)
            await wait_condition(api, NAME, "Ready", "True", within_seconds=READY_SECONDS)
            await asyncio.sleep(until - time.monotonic())
            proxy.clear()
        finally:
            first.send_signal(signal.SIGCONT)
        await asyncio.sleep(QUIET_SECONDS)
        asked = [call for _, call in proxy.calls]
    written = [call for call in asked if call.verb not in READS and call.resource != "leases"]
    if not asked:
        return "it asked for nothing when it went on"
    return f"wrote {written} when it went on" if written else ""


async def _started(stack: AsyncExitStack, api: Api, kubeconfig: Path) -> Process:
    """Return a replica that stands for election and has seen everything."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    process = await stack.enter_async_context(operator_process(kubeconfig, api.namespace, folder, is_replica=True))

    async def is_synced() -> bool:
        return "every kind listed" in (folder / "operator.log").read_text()

    await api.eventually("a replica is synced", is_synced, READY_SECONDS)
    return process


async def _leader(api: Api) -> str:
    lease = await api.find("Lease", "llmservice-operator")
    return str((lease or {}).get("spec", {}).get("holderIdentity") or "")


def _other_than(api: Api, before: str) -> Callable[[], object]:
    async def found() -> bool:
        return await _leader(api) not in ("", before)

    return found
