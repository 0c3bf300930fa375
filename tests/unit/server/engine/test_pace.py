"""How many prompt tokens a step takes, from what steps have cost."""

from __future__ import annotations

import random

import pytest

from inference_server.engine.pace import PREFILL_AT_LEAST_TOKENS, PREFILL_TOKENS, Pace


def pace(*, token_seconds: float, decode_seconds: float) -> Pace:
    """Return the pace of a machine that was rehearsed with 64 tokens."""
    rehearsed = Pace()
    rehearsed.rehearsed(64, decode_seconds + 64 * token_seconds, decode_seconds)
    return rehearsed


@pytest.mark.parametrize(
    ("token_seconds", "decode_seconds", "decoding", "prefilling", "budget"),
    [
        pytest.param(0.001, 0.02, 0, 1, 1024, id="nothing to keep up"),
        pytest.param(0.01, 0.2, 0, 1, 200, id="a slow machine answers a cancellation within two seconds"),
        pytest.param(0.00001, 0.02, 8, 1, 1024, id="a fast machine"),
        pytest.param(0.001, 0.03, 35, 1, 330, id="many streams, one prompt"),
        pytest.param(0.001, 0.03, 16, 16, 670, id="as many prompts as streams"),
        pytest.param(0.001, 0.03, 8, 24, 1024, id="few streams in a burst of prompts"),
        pytest.param(0.01, 0.1, 1, 31, 190, id="no burst makes a step longer than with nothing to keep up"),
        pytest.param(0.01, 0.6, 8, 1, 240, id="decoding is slow itself"),
        pytest.param(0.1, 0.1, 8, 1, 64, id="prompts progress on the slowest machine"),
    ],
)
def test_the_budget(token_seconds: float, decode_seconds: float, decoding: int, prefilling: int, budget: int) -> None:
    rehearsed = pace(token_seconds=token_seconds, decode_seconds=decode_seconds)
    assert rehearsed.prefill_tokens(decoding, prefilling) == pytest.approx(budget, abs=1)


def test_before_the_first_measurement_a_step_is_full() -> None:
    assert Pace().prefill_tokens(decoding=4, prefilling=1) == PREFILL_TOKENS


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_what_a_token_costs_is_learned_from_steps_of_every_kind(noise: float) -> None:
    """Also where a step with both kinds costs more than the two alone, and chunks are small."""
    source = random.Random(1)
    learning = pace(token_seconds=0.004, decode_seconds=0.03)
    for _ in range(300):
        decoding, prefill = source.choice([(0, 512), (16, 0), (16, 64), (16, 200), (31, 0), (31, 128)])
        seconds = 0.02 + 0.001 * decoding + 0.001 * prefill + (0.02 if decoding and prefill else 0)
        learning.measured(prefill, decoding, seconds * (1 + noise * source.uniform(-1, 1)))

    assert learning.prefill_tokens(16, 16) == pytest.approx(650, rel=0.3)


def test_small_chunks_do_not_make_themselves_smaller() -> None:
    learning = pace(token_seconds=0.001, decode_seconds=0.02)
    before = learning.prefill_tokens(16, 4)
    for _ in range(100):
        learning.measured(64, 16, 0.1 + 64 * 0.001)
        learning.measured(0, 16, 0.1)

    assert learning.prefill_tokens(16, 4) > before / 2


def test_what_did_not_fit_into_memory_is_halved_and_grows_back() -> None:
    learning = pace(token_seconds=0.0001, decode_seconds=0.01)
    learning.ran_out_of_memory(1000)
    assert learning.prefill_tokens(0, 1) == 500
    learning.ran_out_of_memory(100)
    assert learning.prefill_tokens(0, 1) == PREFILL_AT_LEAST_TOKENS
    for _ in range(100):
        learning.measured(0, 1, 0.01)
    assert learning.prefill_tokens(0, 1) == PREFILL_TOKENS
