"""`make bench-rollout`: change a service of two replicas again and again while clients ask it through its Service.

Runs inside the cluster's network (`hack/cluster/enter`). Progress goes to stderr; the last line of stdout is the result
as JSON. Exits with 1 if a request failed or an answer was cut short.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from benchmarks.rollout import stage
from benchmarks.rollout.traffic import Tally, traffic
from demo import install
from demo.kubectl import Kubectl


def main() -> int:
    """Run, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="JSON file with the image references")
    parser.add_argument("--rollouts", type=int, default=20)
    parser.add_argument("--requests", type=int, default=100_000, help="over which the rollouts are spread")
    arguments = parser.parse_args()
    with stage.namespace(arguments.images, "bench-rollout") as kubectl:
        tally, rollouts = asyncio.run(_run(kubectl, arguments.rollouts, arguments.requests))
    stage.tell(tally)
    failed, truncated = tally.failed.total(), tally.truncated.total()
    result = {"rollouts": rollouts, "requests": tally.requests, "failed": failed, "truncated": truncated}
    print(json.dumps(result), flush=True)
    return 1 if failed or truncated else 0


async def _run(kubectl: Kubectl, rollouts: int, requests: int) -> tuple[Tally, int]:
    # Each rollout asks for one token of context more.
    kubectl.apply(stage.llmservice(stage.CONTEXT))
    await asyncio.to_thread(stage.wait_ready, kubectl)
    done = 0
    async with traffic(stage.url(kubectl), install.TINY_REPO) as tally:
        while done < rollouts or tally.requests < requests:
            if tally.requests < done * requests / rollouts:
                await asyncio.sleep(0.1)
                continue
            done += 1
            began = time.monotonic()
            await asyncio.to_thread(kubectl.apply, stage.llmservice(stage.CONTEXT + done))
            await asyncio.to_thread(stage.wait_ready, kubectl)
            said = f"rollout {done}: {time.monotonic() - began:.1f} s, {tally.requests} requests, "
            said += f"{tally.failed.total()} failed, {tally.truncated.total()} truncated"
            print(said, file=sys.stderr, flush=True)
    return tally, done


if __name__ == "__main__":
    sys.exit(main())
