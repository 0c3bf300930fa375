"""How many prompt tokens a step takes, from what steps have cost."""

from __future__ import annotations

import pytest

from inference_server.engine.pace import PREFILL_AT_LEAST_TOKENS, PREFILL_TOKENS, Pace


def pace(*, token_seconds: float, decode_seconds: float) -> Pace:
    """Return the pace of a machine on which prompts and decode steps cost this much."""
    measured = Pace()
    measured.measured(0, 1, decode_seconds)
    measured.measured(1024, 0, 1024 * token_seconds)
    return measured


@pytest.mark.parametrize(
    ("token_seconds", "decode_seconds", "decoding", "prefilling", "budget"),
    [
        pytest.param(0.001, 0.02, 0, 1, 1024, id="nothing to keep up"),
        pytest.param(0.01, 0.2, 0, 1, 200, id="a slow machine answers a cancellation within two seconds"),
        pytest.param(0.00001, 0.02, 8, 1, 1024, id="a fast machine"),
        pytest.param(0.001, 0.03, 31, 1, 228, id="many streams, one prompt"),
        pytest.param(0.001, 0.03, 8, 24, 970, id="few streams in a burst of prompts"),
        pytest.param(0.01, 0.6, 8, 1, 120, id="decoding is slow itself"),
        pytest.param(0.1, 0.1, 8, 1, 64, id="prompts progress on the slowest machine"),
    ],
)
def test_the_budget(token_seconds: float, decode_seconds: float, decoding: int, prefilling: int, budget: int) -> None:
    measured = pace(token_seconds=token_seconds, decode_seconds=decode_seconds)
    assert measured.prefill_tokens(decoding, prefilling) == pytest.approx(budget, abs=1)


def test_before_the_first_measurement_a_step_is_full() -> None:
    assert Pace().prefill_tokens(decoding=4, prefilling=1) == PREFILL_TOKENS


def test_a_step_with_both_teaches_the_cost_of_prompts() -> None:
    measured = pace(token_seconds=0.001, decode_seconds=0.02)
    for _ in range(20):
        measured.measured(100, 8, 0.02 + 100 * 0.002)
    assert measured.prefill_tokens(31, 1) == pytest.approx(119, abs=1)


def test_a_handful_of_prompt_tokens_teaches_nothing() -> None:
    measured = pace(token_seconds=0.0001, decode_seconds=0.02)
    measured.measured(3, 0, 0.02)
    assert measured.prefill_tokens(31, 1) == PREFILL_TOKENS


def test_what_did_not_fit_into_memory_is_halved_and_grows_back() -> None:
    measured = pace(token_seconds=0.0001, decode_seconds=0.01)
    measured.ran_out_of_memory(1000)
    assert measured.prefill_tokens(0, 1) == 500
    measured.ran_out_of_memory(100)
    assert measured.prefill_tokens(0, 1) == PREFILL_AT_LEAST_TOKENS
    for _ in range(100):
        measured.measured(0, 1, 0.01)
    assert measured.prefill_tokens(0, 1) == PREFILL_TOKENS
