"""`make campaign`: every plan, resumable; the last line of stdout is the result as JSON.

Plans that went well are noted in build/campaign.jsonl with the commit that they ran at, and are not run again at that
commit.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.campaign import crash, scenarios
from tests.campaign.crash import Outcome
from tests.support.controlplane import ControlPlane, control_plane
from tests.support.mortal_client import mortal_operators

NOTES = Path(__file__).parents[2] / "build" / "campaign.jsonl"
AT_ONCE = 3
"""Plays side by side: a play mostly waits."""


def main() -> int:
    """Run what has not been run, and say what came of all."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--scenarios", nargs="*", default=[one.name for one in scenarios.SCENARIOS])
    parser.add_argument("--specs", nargs="*", default=list(scenarios.SPECS))
    arguments = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder, control_plane(Path(folder)) as plane, mortal_operators():
        found = asyncio.run(_run(plane, commit, set(arguments.scenarios), set(arguments.specs)))
    failed = [outcome for outcome in found if outcome.complaint]
    for outcome in failed:
        print(f"{outcome.plan}: {outcome.complaint}")
    print(json.dumps({"crash": len(found), "failures": len(failed)}), flush=True)
    return 1 if failed else 0


async def _run(plane: ControlPlane, commit: str, names: set[str], specs: set[str]) -> list[Outcome]:
    done = _noted(commit)
    found: list[Outcome] = []
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(scenario: scenarios.Scenario, spec: str) -> None:
        key = f"{scenario.name}, {spec}"
        if key in done:
            found.extend(done[key])
            return
        async with turns:
            began = time.monotonic()
            mine = [outcome async for outcome in crash.outcomes(plane, scenario, spec, itertools.count(1))]
        found.extend(mine)
        bad = sum(bool(outcome.complaint) for outcome in mine)
        said = f"{key}: {len(mine)} plans, {bad} failed, {time.monotonic() - began:.0f} s"
        print(said, file=sys.stderr, flush=True)
        if not bad:
            _note(commit, key, mine)

    async with asyncio.TaskGroup() as tasks:
        for scenario, spec in scenarios.pairs():
            if scenario.name in names and spec in specs:
                tasks.create_task(one(scenario, spec))
    return found


def _note(commit: str, key: str, outcomes: list[Outcome]) -> None:
    NOTES.parent.mkdir(parents=True, exist_ok=True)
    with NOTES.open("a") as notes:
        line = {"commit": commit, "key": key, "outcomes": [asdict(outcome) for outcome in outcomes]}
        notes.write(json.dumps(line) + "\n")


def _noted(commit: str) -> dict[str, list[Outcome]]:
    if not NOTES.is_file():
        return {}
    lines = [json.loads(line) for line in NOTES.read_text().splitlines()]
    return {
        line["key"]: [Outcome(**outcome) for outcome in line["outcomes"]] for line in lines if line["commit"] == commit
    }


if __name__ == "__main__":
    sys.exit(main())
