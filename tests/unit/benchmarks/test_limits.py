"""The arithmetic of the machine's limit."""

import pytest

from benchmarks import limits, models

M125 = limits.sizes(models.config("m125"))


def test_the_models_have_the_sizes_of_their_names() -> None:
    b1 = limits.sizes(models.config("b1"))
    assert M125.block_weights + M125.head_weights == 128_385_024
    assert b1.block_weights + b1.head_weights == 1_038_614_528


@pytest.mark.parametrize(("concurrency", "tokens_per_second"), [(1, 118), (8, 516), (32, 653)])
def test_the_limit_of_the_machine_of_the_first_measurements(concurrency: int, tokens_per_second: int) -> None:
    limit = limits.physical_limit(M125, 34e9, 437e9, concurrency, prompt_tokens=128, new_tokens=64)
    assert round(limit) == tokens_per_second


def test_one_sequence_waits_for_memory_and_many_for_arithmetic() -> None:
    def limit(read: float, flops: float, concurrency: int) -> float:
        return limits.physical_limit(M125, read, flops, concurrency, prompt_tokens=1, new_tokens=1000)

    assert limit(2e10, 1e12, 1) == pytest.approx(2 * limit(1e10, 1e12, 1), rel=0.01)
    assert limit(1e12, 2e11, 512) == pytest.approx(2 * limit(1e12, 1e11, 512), rel=0.01)
