"""The order of a run: contestants take turns at each load, and the machine's limit is measured in every round."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from benchmarks.contestants import Contestant, ServerContestant
from benchmarks.measuring import Notebook
from benchmarks.processes import Worker
from benchmarks.records import CONCURRENCIES, Closed, Limit, Open, Record

ARRIVALS = 200
SHARE_OF_SATURATION = 0.8


def closed_round(notebook: Notebook, number: int, contestants: Sequence[Contestant]) -> None:
    """Measure the machine, then every contestant at every concurrency."""
    measure_limit(notebook, number)
    take_turns(notebook, number, contestants)


def take_turns(notebook: Notebook, number: int, contestants: Sequence[Contestant]) -> None:
    """Measure every contestant at every concurrency: A B C at 1, A B C at 8, A B C at 32."""
    for concurrency in CONCURRENCIES:
        for contestant in contestants:
            if contestant.name not in notebook.failed:
                with notebook.going_on_without(contestant.name):
                    measure_closed(notebook, number, contestant, concurrency)


def open_round(
    notebook: Notebook, number: int, contestants: Sequence[ServerContestant], requests_per_second: float
) -> None:
    """Send each contestant the same Poisson arrivals."""
    arrivals = poisson_arrivals(requests_per_second, ARRIVALS, seed=number)
    for contestant in contestants:
        if contestant.name not in notebook.failed:
            with notebook.going_on_without(contestant.name):
                _measure_open(notebook, number, contestant, arrivals, requests_per_second)


def poisson_arrivals(requests_per_second: float, count: int, seed: int) -> list[float]:
    """Return `count` times, in seconds, that lie exponentially distributed gaps apart."""
    generator = random.Random(seed)
    at, arrivals = 0.0, []
    for _ in range(count):
        at += generator.expovariate(requests_per_second)
        arrivals.append(at)
    return arrivals


def measure_limit(notebook: Notebook, number: int) -> None:
    """Measure bandwidth and GEMM peak in a process that ends, so that it takes no memory from the others."""

    def attempt() -> Callable[[float], Record]:
        with Worker.started("limits", "benchmarks.limits") as worker:
            measured = worker.ready
        return lambda others: Limit(round=number, others_cores=others, **measured)

    notebook.measure(f"round {number}: the machine's limit", (), attempt)


def measure_closed(notebook: Notebook, number: int, contestant: Contestant, concurrency: int) -> None:
    """Measure one contestant at one concurrency."""

    def attempt() -> Callable[[float], Record]:
        load = contestant.closed(concurrency)
        return lambda others: Closed(
            contestant=contestant.name,
            concurrency=concurrency,
            round=number,
            tokens=load.tokens,
            seconds=round(load.seconds, 4),
            ttft_seconds=[round(seconds, 4) for seconds in load.ttft_seconds],
            others_cores=round(others, 3),
        )

    notebook.measure(f"round {number}: {contestant.name} at {concurrency}", {contestant.session}, attempt)


def _measure_open(
    notebook: Notebook,
    number: int,
    contestant: ServerContestant,
    arrivals: list[float],
    requests_per_second: float,
) -> None:
    def attempt() -> Callable[[float], Record]:
        load = contestant.open(arrivals)
        return lambda others: Open(
            contestant=contestant.name,
            round=number,
            requests_per_second=round(requests_per_second, 3),
            ttft_seconds=[round(seconds, 4) for seconds in load.ttft_seconds],
            others_cores=round(others, 3),
        )

    label = f"round {number}: {contestant.name}, {requests_per_second:.1f} requests a second"
    notebook.measure(label, {contestant.session}, attempt)
