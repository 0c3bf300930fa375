"""`make bench-rollout`: change a service of two replicas again and again while clients ask it through its Service.

Runs inside the cluster's network (`hack/cluster/enter`). Progress goes to stderr; the last line of stdout is the result
as JSON. Exits with 1 if a request failed or an answer was cut short.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

from benchmarks.rollout.traffic import LONGEST_STREAM_SECONDS, TOKENS_PER_SECOND, Tally, traffic
from demo import install
from demo.kubectl import Kubectl, Manifest, wait_for
from demo.watch import is_ready

NAME = "model"
PROFILE = "fake"
READY_SECONDS = 300
CONTEXT = 4096
"""Tokens; each rollout asks for one more, and the longest stream has 3000."""


def main() -> int:
    """Run, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="JSON file with the image references")
    parser.add_argument("--rollouts", type=int, default=20)
    parser.add_argument("--requests", type=int, default=100_000, help="over which the rollouts are spread")
    arguments = parser.parse_args()
    images = install.Images.load(arguments.images)
    kubectl = Kubectl(f"bench-rollout-{os.getpid()}")
    profile = install.fake_profile(images)
    profile["env"] |= {"LLMSERVICE_FAKE_TOKENS_PER_SECOND": str(TOKENS_PER_SECOND)}
    install.install(kubectl, images, extra_profiles={PROFILE: profile})
    kubectl.apply(install.namespace(kubectl.namespace))
    try:
        tally, rollouts = asyncio.run(_run(kubectl, arguments.rollouts, arguments.requests))
    finally:
        kubectl.run("delete", "namespace", kubectl.namespace, "--wait=false")
    for kind, counts in (("failed", tally.failed), ("truncated", tally.truncated)):
        for text, count in counts.most_common(10):
            print(f"{kind}: {count} x {text}")
    print(f"{tally.streams} long streams, the longest {tally.longest_stream_seconds:.0f} s")
    failed, truncated = tally.failed.total(), tally.truncated.total()
    result = {"rollouts": rollouts, "requests": tally.requests, "failed": failed, "truncated": truncated}
    print(json.dumps(result), flush=True)
    return 1 if failed or truncated else 0


async def _run(kubectl: Kubectl, rollouts: int, requests: int) -> tuple[Tally, int]:
    kubectl.apply(_llmservice(CONTEXT))
    await asyncio.to_thread(_wait, kubectl)
    service = kubectl.get("service", NAME)
    assert service is not None
    done = 0
    async with traffic(f"http://{service['spec']['clusterIP']}", install.TINY_REPO) as tally:
        while done < rollouts or tally.requests < requests:
            if tally.requests < done * requests / rollouts:
                await asyncio.sleep(0.1)
                continue
            done += 1
            began = time.monotonic()
            await asyncio.to_thread(kubectl.apply, _llmservice(CONTEXT + done))
            await asyncio.to_thread(_wait, kubectl)
            said = f"rollout {done}: {time.monotonic() - began:.1f} s, {tally.requests} requests, "
            said += f"{tally.failed.total()} failed, {tally.truncated.total()} truncated"
            print(said, file=sys.stderr, flush=True)
    return tally, done


def _wait(kubectl: Kubectl) -> None:
    wait_for(lambda: is_ready(kubectl.get("llmservice", NAME)), seconds=READY_SECONDS, what="Ready")


def _llmservice(context: int) -> Manifest:
    return {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": NAME},
        "spec": {
            "profile": PROFILE,
            "replicas": 2,
            "model": {"source": {"huggingFace": {"repo": install.TINY_REPO}}},
            "engine": {
                "quantization": {"method": "None"},
                "maxModelLen": context,
                "batching": {"maxBatchSize": 32},
            },
            # A client may send its next request on the connection of a stream that began before the drain.
            "rollout": {"drainTimeoutSeconds": 2 * LONGEST_STREAM_SECONDS + 30},
        },
    }


if __name__ == "__main__":
    sys.exit(main())
