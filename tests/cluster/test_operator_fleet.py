"""Twenty LLMServices with the rights of deploy/ alone: no write when idle or after a restart, within its memory."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from tests.support.api import Api, denied, writes
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import SETTINGS
from tests.support.stage import llmservice, serve

ROOT = Path(__file__).parents[2]
FLEET = 20
QUIET_SECONDS = 8.0
MEMORY_MIB = 120
STOP_SECONDS = 5.0
USER = "system:serviceaccount:llmservice-system:llmservice-operator"


@asynccontextmanager
async def operator_process(
    plane: ControlPlane, kubeconfig: Path, namespace: str, folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `python3 -m llmservice_operator run` as a process of its own; it must end within five seconds of SIGTERM."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**SETTINGS, "watchNamespaces": [namespace]}))
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(ROOT / "operator")}
    with (folder / "operator.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "llmservice_operator", "run", "--config", str(config)),
            env=environment,
            stderr=log,
            stdout=subprocess.DEVNULL,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            assert await process.wait() == 0, (folder / "operator.log").read_text()[-2000:]


def resident_mib(process: asyncio.subprocess.Process) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.fixture
def kubeconfig(plane: ControlPlane, namespace: str) -> Path:
    """The operator's service account, with the ClusterRole of deploy/ bound in one namespace only."""
    plane.kubectl("apply", "--server-side", "--filename", str(ROOT / "deploy" / "cluster-role.yaml"))
    plane.kubectl(
        *("create", "rolebinding", "operator", "--clusterrole=llmservice-operator", f"--user={USER}"),
        f"--namespace={namespace}",
    )
    return plane.kubeconfig_for(USER)


@pytest.mark.timeout(240)
async def test_twenty_services_idle_and_after_a_restart(
    plane: ControlPlane, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    async with Api(plane, namespace) as api:
        async with operator_process(plane, kubeconfig, namespace, tmp_path) as process:
            for number in range(FLEET):
                await api.create(llmservice(f"llama-{number}"))
            for number in range(FLEET):
                await serve(api, f"llama-{number}")
            await asyncio.sleep(QUIET_SECONDS)
            settled = writes(plane, namespace)
            await asyncio.sleep(QUIET_SECONDS)
            assert writes(plane, namespace)[len(settled) :] == []
            memory = resident_mib(process)
        async with operator_process(plane, kubeconfig, namespace, tmp_path) as process:
            await asyncio.sleep(QUIET_SECONDS)
            after_restart = resident_mib(process)
    log = (tmp_path / "operator.log").read_text()
    assert writes(plane, namespace)[len(settled) :] == [], log[-2000:]
    assert log.count("every kind listed") == 2
    assert max(memory, after_restart) <= MEMORY_MIB, (memory, after_restart)
    assert denied(plane, USER) == []
    print(f"resident: {memory:.0f} MiB after settling, {after_restart:.0f} MiB after a restart")  # noqa: T201
