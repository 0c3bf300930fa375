"""The operator is killed, as the kernel does it to a process that has used up its memory: fault F03.

A death at each single write is the campaign's (tests/campaign/crash), fault F01.
"""

from pathlib import Path

import pytest

from tests.support.api import Api, writes
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import operator_process
from tests.support.stage import begin_rollout, make_pods_ready, server_uids, wait_condition

LONGER = {"spec": {"engine": {"maxModelLen": 2048}}}
STARTED_SECONDS = 30.0
LEADING_SECONDS = 20.0
"""The killed one's Lease has to run out first."""


@pytest.mark.timeout(180)
async def test_f03_a_killed_operator_costs_no_replica_and_its_successor_finishes_what_it_began(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async def has_started(times: int) -> bool:
        return (tmp_path / "operator.log").read_text().count("every kind listed") == times

    async with Api(plane, namespace) as api:
        async with operator_process(plane.kubeconfig, namespace, tmp_path, is_replica=True) as process:
            await api.eventually("the operator has started", lambda: has_started(1), STARTED_SECONDS)
            before = await begin_rollout(api, "llama", LONGER, replicas=2)
            process.kill()
            await process.wait()
        assert before < await server_uids(api, "llama")

        async def is_replaced() -> bool:
            await make_pods_ready(api, "llama", 2)
            left = await server_uids(api, "llama")
            return len(left) == 2 and left.isdisjoint(before)

        await api.eventually("the rollout goes on without an operator", is_replaced)
        done, written = await server_uids(api, "llama"), len(writes(plane, namespace))
        async with operator_process(plane.kubeconfig, namespace, tmp_path, is_replica=True):
            await api.eventually("its successor has started", lambda: has_started(2), STARTED_SECONDS)
            await wait_condition(api, "llama", "Ready", "True", within_seconds=LEADING_SECONDS)
            since = writes(plane, namespace)[written:]
        assert await server_uids(api, "llama") == done
        made = [line for line in since if line.endswith(" 201") and " events " not in line]
        assert [*made, *(line for line in since if line.startswith("delete"))] == []
