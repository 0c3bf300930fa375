"""The run behind `make bench-engine`: our engine against what transformers offers, all without HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.contestants import Contestant, EngineContestant
from benchmarks.measuring import Notebook
from benchmarks.processes import Worker
from benchmarks.rounds import closed_round
from cluster.progress import step

PEERS = ("generate", "static-batch", "transformers-cb")


def run(notebook: Notebook, model: Path, count: int, peers: Sequence[str]) -> None:
    """Measure `count` rounds, our engine beside `peers`, and keep the records in `notebook`."""
    with ExitStack() as stack:
        contestants: list[Contestant] = []
        for name in ("bare-engine", *peers):
            with notebook.going_on_without(name), step(f"starting {name}"):
                module = "bare_engine" if name == "bare-engine" else "transformers_engines"
                arguments = [str(model)] if name == "bare-engine" else [name, str(model)]
                worker = stack.enter_context(Worker.started(name, f"benchmarks.{module}", *arguments))
                contestant = EngineContestant(worker)
                contestant.warm_up()
                contestants.append(contestant)
        for number in range(1, count + 1):
            closed_round(notebook, number, contestants)
