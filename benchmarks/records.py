"""The records of a run: one JSON object a line, kept under benchmarks/results/, from which every figure is derived."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

CONCURRENCIES = (1, 8, 32)
PROMPT_TOKENS = 128
NEW_TOKENS = 64


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run", tag_field="kind"):
    """What was measured, where and with what. A measurement is quiet if others used at most `others_limit_cores`."""

    benchmark: str
    date: str
    commit: str
    machine: dict[str, str | int | float]
    versions: dict[str, str]
    model: str
    rounds: int
    others_limit_cores: float
    prompt_tokens: int = PROMPT_TOKENS
    new_tokens: int = NEW_TOKENS


class Limit(msgspec.Struct, frozen=True, kw_only=True, tag="limit", tag_field="kind"):
    """What the machine could do in a round."""

    round: int
    read_bytes_per_second: float
    bf16_flops: float
    others_cores: float


class Closed(msgspec.Struct, frozen=True, kw_only=True, tag="closed", tag_field="kind"):
    """One contestant under a closed loop; `ttft_seconds` is ascending, one for each request."""

    contestant: str
    concurrency: int
    round: int
    tokens: int
    seconds: float
    ttft_seconds: list[float]
    others_cores: float

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens per second, prompts' time included."""
        return self.tokens / self.seconds


class Open(msgspec.Struct, frozen=True, kw_only=True, tag="open", tag_field="kind"):
    """One contestant under Poisson arrivals, `requests_per_second` on average."""

    contestant: str
    round: int
    requests_per_second: float
    ttft_seconds: list[float]
    others_cores: float


class Timing(msgspec.Struct, frozen=True, kw_only=True, tag="timing", tag_field="kind"):
    """How long something took: `ready_seconds_1b`, `nf4_at_load`, `nf4_prequantized`."""

    what: str
    round: int
    seconds: float
    others_cores: float


Record = Run | Limit | Closed | Open | Timing


def write(path: Path, record: Record) -> None:
    """Append a record at once, so that a run that breaks off leaves what it measured."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(record) + b"\n")


def read(path: Path) -> list[Record]:
    """Return the records of a run, its `Run` first."""
    decoder = msgspec.json.Decoder(Record)
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]


def percentile(ascending: Iterable[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    values = list(ascending)
    return values[max(0, -int(-share * len(values) // 1) - 1)]
