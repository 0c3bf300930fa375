"""`make campaign`: every plan, resumable; the last line of stdout is the result as JSON.

Parts that went well are noted in build/campaign.jsonl with the state of the files that they are about, and are not run
again until one of those changes.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from dataclasses import asdict
from pathlib import Path

from tests.campaign.kinds import KINDS, Part
from tests.campaign.outcome import Outcome
from tests.support.controlplane import ControlPlane, control_plane
from tests.support.mortal_client import mortal_operators

ROOT = Path(__file__).parents[2]
NOTES = ROOT / "build" / "campaign.jsonl"
PLAYED = ("operator", "crds", "hack", "requirements", "tests/campaign", "tests/support")
"""What a play is made of; a change elsewhere leaves its outcome true."""
AT_ONCE = 6
"""Plays side by side: a play mostly waits."""


def main() -> int:
    """Run what has not been run, and say what came of all."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--kinds", nargs="*", choices=list(KINDS), default=list(KINDS), help="default: all")
    parser.add_argument("--parts", nargs="*", default=[""], metavar="TEXT", help="only parts that are named like this")
    parser.add_argument(
        "--at-once", type=int, default=AT_ONCE, metavar="N", help=f"plays side by side; default: {AT_ONCE}"
    )
    arguments = parser.parse_args()
    state = _state()
    with tempfile.TemporaryDirectory() as folder, control_plane(Path(folder)) as plane, mortal_operators():
        found = asyncio.run(_run(plane, state, arguments.kinds, arguments.parts, arguments.at_once))
    failures = sum(bool(outcome.complaint) for outcomes in found.values() for outcome in outcomes)
    counts = {kind: len(outcomes) for kind, outcomes in found.items()}
    print(json.dumps({**counts, "failures": failures}), flush=True)
    return 1 if failures else 0


def _state() -> str:
    """Return a name for what is played: equal for equal files, and new at each start with uncommitted ones."""
    trees = _git("rev-parse", *(f"HEAD:{path}" for path in PLAYED))
    changed = _git("status", "--porcelain", "--", *PLAYED)
    return hashlib.sha256(trees.encode()).hexdigest()[:12] + (f" changed {uuid.uuid4()}" if changed else "")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


async def _run(
    plane: ControlPlane, state: str, kinds: list[str], names: list[str], at_once: int
) -> dict[str, list[Outcome]]:
    done = _noted(state)
    found: dict[str, list[Outcome]] = {kind: [] for kind in kinds}
    turns = asyncio.Semaphore(at_once)

    async def one(kind: str, part: Part) -> None:
        key = f"{kind}: {part.name}"
        if key in done:
            found[kind] += done[key]
            return
        async with turns:
            began = time.monotonic()
            mine = await _outcomes(plane, part)
        found[kind] += mine
        bad = [outcome for outcome in mine if outcome.complaint]
        said = [f"{key}: {len(mine)} plans, {len(bad)} failed, {time.monotonic() - began:.0f} s"]
        said += [f"{outcome.plan}: {outcome.complaint}" for outcome in bad]
        print("\n".join(said), file=sys.stderr, flush=True)
        if not bad:
            _note(state, key, mine)

    async with asyncio.TaskGroup() as tasks:
        for kind in kinds:
            for part in KINDS[kind]():
                if any(name in part.name for name in names):
                    tasks.create_task(one(kind, part))
    return found


async def _outcomes(plane: ControlPlane, part: Part) -> list[Outcome]:
    found = []
    try:
        async for outcome in part.outcomes(plane):
            found.append(outcome)
    except Exception:  # noqa: BLE001 - not even the play without a fault went well; the others go on
        found.append(Outcome(part.name, happened=False, complaint=traceback.format_exc()[-2000:]))
    return found


def _note(state: str, key: str, outcomes: list[Outcome]) -> None:
    NOTES.parent.mkdir(parents=True, exist_ok=True)
    with NOTES.open("a") as notes:
        line = {"state": state, "key": key, "outcomes": [asdict(outcome) for outcome in outcomes]}
        notes.write(json.dumps(line) + "\n")


def _noted(state: str) -> dict[str, list[Outcome]]:
    if not NOTES.is_file():
        return {}
    lines = [json.loads(line) for line in NOTES.read_text().splitlines()]
    return {
        line["key"]: [Outcome(**outcome) for outcome in line["outcomes"]]
        for line in lines
        if line.get("state") == state
    }


if __name__ == "__main__":
    sys.exit(main())
