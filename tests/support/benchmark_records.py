"""Records of benchmarks that never ran."""

from benchmarks.limits import Sizes
from benchmarks.records import Closed, Open, Run

MODEL = Sizes(block_weights=10**8, head_weights=10**7, kv_values=6144)
RUN = Run(
    benchmark="server",
    date="2026-11-28 05:00 UTC",
    commit="abc",
    machine={"cores": 2},
    versions={"torch": "2.13.0"},
    model="m125",
    rounds=3,
    others_limit_cores=0.2,
)


def closed(contestant: str, concurrency: int, round_number: int, rate: int, others: float = 0.0) -> Closed:
    """Return a measurement at `rate` tokens per second."""
    return Closed(
        contestant=contestant,
        concurrency=concurrency,
        round=round_number,
        tokens=64 * rate,
        seconds=64.0,
        ttft_seconds=[0.1],
        others_cores=others,
    )


def open_loop(contestant: str, ttft_seconds: list[float]) -> Open:
    """Return a measurement of round 1."""
    return Open(contestant=contestant, round=1, requests_per_second=5, ttft_seconds=ttft_seconds, others_cores=0)
