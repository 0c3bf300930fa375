"""Twenty LLMServices with the rights of deploy/ alone: no write when idle or after a restart, within its memory."""

import asyncio
from pathlib import Path

import pytest

from tests.support.api import Api, denied, writes
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import ROOT, operator_process
from tests.support.stage import llmservice, serve

FLEET = 20
QUIET_SECONDS = 8.0
MEMORY_MIB = 120
USER = "system:serviceaccount:llmservice-system:llmservice-operator"


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
        async with operator_process(kubeconfig, namespace, tmp_path) as process:
            for number in range(FLEET):
                await api.create(llmservice(f"llama-{number}"))
            for number in range(FLEET):
                await serve(api, f"llama-{number}")
            await asyncio.sleep(QUIET_SECONDS)
            settled = writes(plane, namespace)
            await asyncio.sleep(QUIET_SECONDS)
            assert writes(plane, namespace)[len(settled) :] == []
            memory = resident_mib(process)
        async with operator_process(kubeconfig, namespace, tmp_path) as process:
            await asyncio.sleep(QUIET_SECONDS)
            after_restart = resident_mib(process)
    log = (tmp_path / "operator.log").read_text()
    assert writes(plane, namespace)[len(settled) :] == [], log[-2000:]
    assert log.count("every kind listed") == 2
    assert max(memory, after_restart) <= MEMORY_MIB, (memory, after_restart)
    assert denied(plane, USER) == []
    print(f"resident: {memory:.0f} MiB after settling, {after_restart:.0f} MiB after a restart")  # noqa: T201
