"""`make bench-outage`: stop the operator and the control plane while clients ask a service of two replicas.

Something is left to be mended: the spec is changed when the operator has gone, or, with an operator that goes on
(`--stop kube-apiserver`), as soon as the API server answers again. The state is right when children and status are what
the changed spec asks for. The replicas follow when the kubelet looks: it and kube-proxy ask an API server that was gone
for minutes only every 30 to 60 s. The operator is a process here, with the rights and settings of deploy/, because its
pods would wait for that kubelet, too.

Runs inside the network of our own cluster (`hack/cluster/enter`). Progress goes to stderr; the last line of stdout is
the result as JSON. Exits with 1 if a request failed, an answer was cut short or the state was not right in time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rollout import stage
from benchmarks.rollout.traffic import Tally, traffic
from benchmarks.scale.operator_process import operator_process
from cluster import binaries, node
from cluster.controlplane import ControlPlane
from demo import install
from demo.kubectl import Kubectl, Manifest, condition, wait_for
from demo.watch import is_ready

RIGHT_STATE_SECONDS = 30.0
OPERATOR = "operator"
# A real scheduler ends with the API server: it cannot renew its Lease. So does a real controller manager.
STOPPABLE = (OPERATOR, *binaries.CONTROL_PLANE)
SETTLING_SECONDS = 5.0
CHANGED_GENERATION = 2
"""From this one on, of the service and of its Deployment: each was made once."""
AFTERMATH_SECONDS = 300
"""In which the replaced replicas have answered what they had begun."""


@dataclass(frozen=True)
class Recovery:
    """How long things took after everything was started again."""

    right_state_seconds: float
    ready_seconds: float


def main() -> int:
    """Run, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout.outage", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="JSON file with the image references")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--stop", nargs="+", choices=STOPPABLE, default=STOPPABLE, help="default: all of them")
    arguments = parser.parse_args()
    plane = node.control_plane()
    with (
        stage.namespace(arguments.images, "bench-outage") as kubectl,
        stage.operator_outside(arguments.images, plane.directory),
    ):
        try:
            tally, recovery = asyncio.run(_run(kubectl, plane, 60 * arguments.minutes, arguments.stop))
        finally:
            node.up()  # Whoever interrupts the outage ends it.
    stage.tell(tally)
    failed, truncated = tally.failed.total(), tally.truncated.total()
    result = {"minutes": arguments.minutes, "requests": tally.requests, "failed": failed, "truncated": truncated}
    result |= {"right_state_seconds": round(recovery.right_state_seconds, 1)}
    print(json.dumps({**result, "ready_seconds": round(recovery.ready_seconds, 1)}), flush=True)
    return 1 if failed or truncated or recovery.right_state_seconds > RIGHT_STATE_SECONDS else 0


async def _run(
    kubectl: Kubectl, plane: ControlPlane, seconds: float, stopped: Collection[str]
) -> tuple[Tally, Recovery]:
    async with AsyncExitStack() as running:
        operator = await running.enter_async_context(operator_process(plane))
        kubectl.apply(stage.llmservice(stage.CONTEXT))
        await asyncio.to_thread(stage.wait_ready, kubectl)
        async with traffic(stage.url(kubectl), install.TINY_REPO) as tally:
            await asyncio.sleep(SETTLING_SECONDS)
            if OPERATOR in stopped:
                os.kill(operator.pid, signal.SIGKILL)
                await asyncio.to_thread(_change, kubectl)
            # The last one first: a controller that outlives its API server judges nodes by what it saw before.
            await asyncio.to_thread(node.kill, *(name for name in reversed(binaries.CONTROL_PLANE) if name in stopped))
            _say("stopped", tally)
            await asyncio.sleep(seconds)
            _say("starting again", tally)
            began = time.monotonic()
            if OPERATOR in stopped:
                await running.enter_async_context(operator_process(plane))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(asyncio.to_thread(node.up))
                recovery = await asyncio.to_thread(_recovery, kubectl, began, change=OPERATOR not in stopped)
            _say(f"right after {recovery.right_state_seconds:.1f} s, ready after {recovery.ready_seconds:.1f} s", tally)
            await asyncio.to_thread(_wait_for_two_pods, kubectl)
    return tally, recovery


def _recovery(kubectl: Kubectl, began: float, *, change: bool) -> Recovery:
    """Wait for the API server, change the service if that is still to be done, and see how long it takes to follow."""

    def seconds_until(question: Callable[[], bool], what: str) -> float:
        wait_for(question, seconds=stage.READY_SECONDS, what=what)
        return time.monotonic() - began

    seconds_until(lambda: kubectl.attempt("get", "--raw", "/readyz").returncode == 0, "the API server answers")
    if change:
        _change(kubectl)
    right = seconds_until(lambda: is_right(*_objects(kubectl)), "the state is right")
    ready = seconds_until(lambda: is_ready(kubectl.get("llmservice", stage.NAME)), "the replicas are ready")
    return Recovery(right, ready)


def _change(kubectl: Kubectl) -> None:
    kubectl.apply(stage.llmservice(stage.CONTEXT + 1))


def _objects(kubectl: Kubectl) -> tuple[Manifest | None, Manifest | None]:
    return kubectl.get("deployment", stage.NAME), kubectl.get("llmservice", stage.NAME)


def is_right(deployment: Manifest | None, llmservice: Manifest | None) -> bool:
    """Whether the Deployment was given the changed spec and the status tells what has come of that so far."""
    if deployment is None or llmservice is None:
        return False
    ready, generation = condition(llmservice, "Ready"), llmservice["metadata"]["generation"]
    is_told = ready.get("observedGeneration") == generation
    is_true = ready.get("status") == "True" or condition(llmservice, "Reconciling").get("status") == "True"
    is_changed = min(generation, deployment["metadata"]["generation"]) >= CHANGED_GENERATION
    return is_changed and is_told and is_true


def _wait_for_two_pods(kubectl: Kubectl) -> None:
    wait_for(
        lambda: len(kubectl.list("pods", "app.kubernetes.io/component=server")) == 2,
        seconds=AFTERMATH_SECONDS,
        every_seconds=2,
        what="the replaced replicas have gone",
    )


def _say(what: str, tally: Tally) -> None:
    said = f"{what}: {tally.requests} requests, {tally.failed.total()} failed, {tally.truncated.total()} truncated"
    print(said, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
