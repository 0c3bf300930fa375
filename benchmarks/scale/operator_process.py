"""The operator as its container starts it, and what it costs: memory, processor time, what its metrics say."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.scale.played_cluster import OPERATOR, OPERATOR_NAMESPACE
from cluster import processes
from cluster.controlplane import ControlPlane
from cluster.trouble import Trouble
from llmservice_operator import names

ROOT = Path(__file__).parents[2]
URL = f"http://127.0.0.1:{names.OPERATOR_PORT}"
LOOK_SECONDS = 0.2
STOP_SECONDS = 10.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class OperatorProcess:
    """One running operator."""

    def __init__(self, process: processes.Process, log: Path):
        self._process = process
        self._log = log
        self._started_at = time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def peak_mib(self) -> float:
        """The most memory it ever had resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024  # type: ignore[index]

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has used, its own and the kernel's for it."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    async def synced(self, services: int, within_seconds: float = 300.0) -> float:
        """Return after how many seconds since its start it leads, has reconciled every LLMService and waits for more.

        Raises:
            TimeoutError: it took longer.
            Trouble: it ended by itself.
        """
        async with asyncio.timeout(within_seconds), aiohttp.ClientSession() as session:
            while not await self._is_synced(session, services):  # noqa: ASYNC110 - another process sets no event
                await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic() - self._started_at

    async def _is_synced(self, session: aiohttp.ClientSession, services: int) -> bool:
        if not self._process.is_running():
            raise Trouble(
                f"the operator ended by itself; is port {names.OPERATOR_PORT} free?\n{processes.tail(self._log)}"
            )
        try:
            async with session.get(f"{URL}/readyz") as ready, session.get(f"{URL}/metrics") as metrics:
                page = await metrics.text()
        except aiohttp.ClientError:
            return False
        has_reconciled_all = _total(page, "controller_runtime_reconcile_total") >= services
        is_at_work = _total(page, "workqueue_depth") + _total(page, "controller_runtime_active_workers") > 0
        leads = _total(page, "llmservice_operator_leader") == 1
        return ready.status == 200 and leads and has_reconciled_all and not is_at_work


def _total(page: str, name: str) -> float:
    """Return the sum of a metric over its labels."""
    samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == name)


@asynccontextmanager
async def operator_process(plane: ControlPlane) -> AsyncIterator[OperatorProcess]:
    """Run the operator with the rights and the configuration of deploy/ while the body does."""
    environment = {
        "KUBECONFIG": str(plane.kubeconfig_for(OPERATOR)),
        "POD_NAMESPACE": OPERATOR_NAMESPACE,
        "PYTHONPATH": str(ROOT / "operator"),
    }
    config = plane.directory / "config.yaml"
    log = plane.log("operator")
    process = processes.start(
        [sys.executable, "-m", "llmservice_operator", "run", "--config", config],
        log,
        env=environment,
        outlives_caller=False,
    )
    try:
        yield OperatorProcess(process, log)
    finally:
        await asyncio.to_thread(process.end, patience_seconds=STOP_SECONDS)
