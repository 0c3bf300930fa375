"""The sampler's choices, held against plain arithmetic on the same logits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from inference_server.engine.interface import SamplingParams
from inference_server.engine.sampler import SMALLEST_LOGPROB, Row, prompt_logprobs, sample, uniform

VOCABULARY_SIZE = 1000
LARGE = 20_000
"""A vocabulary that is searched by its likely blocks first."""


def params(**values: Any) -> SamplingParams:
    return SamplingParams(max_tokens=1, **{"temperature": 1.0, **values})


def row(seed: int = 3, position: int = 5, shifts: Mapping[int, float] | None = None, **values: Any) -> Row:
    return Row(params(**values), seed, position, shifts or {})


def draws(logits: list[float], count: int, **values: Any) -> list[int]:
    """Return the tokens of `count` positions of one seed."""
    rows = [row(position=position, **values) for position in range(count)]
    return [choice.token_id for choice in sample(torch.tensor(logits).repeat(count, 1), rows) if choice]


def random_logits(rows: int, scale: float = 2.0, vocabulary_size: int = VOCABULARY_SIZE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocabulary_size, generator=generator) * scale


def nucleus(logits: Tensor, temperature: float, top_p: float) -> list[tuple[int, float]]:
    """Return the ids, in order, and the probabilities of the nucleus of one row, by sorting."""
    probabilities = (logits.double() / temperature).softmax(-1)
    likely, tokens = probabilities.sort(descending=True)
    kept = int(torch.searchsorted(likely.cumsum(-1), top_p)) + 1
    return sorted(zip(tokens[:kept].tolist(), likely[:kept].tolist(), strict=True))


@pytest.mark.parametrize("vocabulary_size", [512, 1000])
def test_temperature_zero_takes_the_largest_logit_and_of_equal_ones_the_first(vocabulary_size: int) -> None:
    logits = random_logits(6, vocabulary_size=vocabulary_size)
    logits[1, 400], logits[1, 7], logits[1, 8] = 50.0, 50.0, 50.0
    expected = logits.argmax(-1).tolist()

    assert [choice.token_id for choice in sample(logits, [row(temperature=0.0)] * 6) if choice] == expected
    assert expected[1] == 7


def test_draws_follow_the_probabilities() -> None:
    drawn = draws([0.0, math.log(3)], 4000)

    assert 0.73 < sum(drawn) / len(drawn) < 0.77


@pytest.mark.parametrize("scale", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.95, 0.999, 1.0])
@pytest.mark.parametrize("vocabulary_size", [VOCABULARY_SIZE, LARGE])
def test_a_draw_inverts_the_distribution_of_the_nucleus_in_order_of_ids(
    scale: float, top_p: float, vocabulary_size: int
) -> None:
    logits = random_logits(40, scale, vocabulary_size)
    rows = [row(seed=index, temperature=0.8, top_p=top_p) for index in range(40)]
    chosen = sample(logits.clone(), rows)

    for index, choice in enumerate(chosen):
        assert choice is not None
        kept = nucleus(logits[index], 0.8, top_p)
        wanted = uniform(index, 5) * sum(probability for _, probability in kept)
        below = sum(probability for token, probability in kept if token < choice.token_id)
        own = dict(kept)[choice.token_id]
        # At the end of the nucleus, one token may be kept beside another that is as likely but for 1e-5.
        slack = 1e-5 + (min(probability for _, probability in kept) if top_p < 1 else 0.0)
        assert below - slack <= wanted <= below + own + slack


def test_top_p_keeps_the_smallest_set_that_holds_the_mass() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().tolist()

    assert set(draws(logits, 300, top_p=0.6)) == {0, 1}
    assert set(draws(logits, 300, top_p=0.01)) == {0}
    assert set(draws(logits, 300, top_p=0.0)) == {0}
    assert set(draws(logits, 300, top_p=1.0)) == {0, 1, 2, 3}


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.8, 0.95])
@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0])
def test_the_nucleus_is_that_of_sorting_the_vocabulary(top_p: float, scale: float) -> None:
    logits = random_logits(1, scale)
    rows = 2000
    drawn = Counter(
        choice.token_id
        for choice in sample(
            logits.expand(rows, -1).clone(), [row(position=index, top_p=top_p) for index in range(rows)]
        )
        if choice
    )
    kept = dict(nucleus(logits[0], 1.0, top_p))

    likely = {token for token, probability in kept.items() if probability > 0.01}
    assert likely <= set(drawn)
    # Logits that are nearly equal may share a level of likelihood, so that a few more tokens are kept.
    assert len(set(drawn) - set(kept)) <= 3


def test_equally_likely_tokens_are_kept_or_dropped_together() -> None:
    assert set(draws([1.0, 1.0, 1.0, -3.0], 200, top_p=0.4)) == {0, 1, 2}


def test_one_seed_gives_one_token_whatever_is_beside_it_and_however_its_logits_are_rounded() -> None:
    logits = random_logits(64)
    rows = [row(seed=index, top_p=0.9 if index % 2 else 1.0, temperature=index % 3 / 2) for index in range(64)]
    together = sample(logits.clone(), rows)
    rounded = sample(logits + 1e-6 * random_logits(64, seed=1), rows)

    assert together == [sample(logits[[index]].clone(), [rows[index]])[0] for index in range(64)]
    assert together == rounded


def test_nearly_equal_logits_that_change_places_do_not_change_the_draw() -> None:
    rows = [row(position=index) for index in range(200)]
    one = torch.tensor([2.0, 2.0 + 1e-6, 0.0]).repeat(200, 1)
    other = torch.tensor([2.0 + 1e-6, 2.0, 0.0]).repeat(200, 1)

    assert sample(one, rows) == sample(other, rows)


def test_uniform_numbers_are_uniform_and_known() -> None:
    numbers = [uniform(7, position) for position in range(10_000)]

    assert abs(sum(numbers) / len(numbers) - 0.5) < 0.01
    assert all(900 < count < 1100 for count in Counter(int(number * 10) for number in numbers).values())
    assert 0 <= uniform(2**64 - 1, 2**20) < 1
    assert len({uniform(seed, position) for seed in range(100) for position in range(100)}) == 10_000
    # The first number of SplitMix64 from state 0, as published: a seed promises the same text after an upgrade.
    assert uniform(0, 0) == (0xE220A8397B1DCDAF >> 11) / 2**53


def test_a_tiny_temperature_is_nearly_greedy_and_stays_finite() -> None:
    assert set(draws([50.0, 49.0, -50.0], 20, temperature=1e-9)) == {0}


@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_masked_logits_are_never_drawn(top_p: float) -> None:
    assert set(draws([-math.inf, 0.0, 0.0, -math.inf], 200, top_p=top_p)) == {1, 2}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("values", [{}, {"temperature": 0.0}, {"top_p": 0.9}, {"logprobs": 2}])
def test_logits_that_are_no_numbers_are_refused_and_leave_the_others_alone(bad: float, values: dict[str, Any]) -> None:
    logits = random_logits(3)
    healthy = sample(logits.clone(), [row(**values)] * 3)
    logits[1, :] = -math.inf
    logits[1, 5] = bad

    assert sample(logits, [row(**values)] * 3) == [healthy[0], None, healthy[2]]


def test_bias_and_penalties_shift_the_logits_of_their_row_alone() -> None:
    logits = torch.zeros(2, 8)

    rows = [row(temperature=0.0, shifts={3: 1.0, 4: 0.5}), row(temperature=0.0)]

    assert [choice.token_id for choice in sample(logits, rows) if choice] == [3, 0]


def test_log_probabilities_are_those_after_shifts_and_before_temperature() -> None:
    logits = random_logits(3)
    expected = (logits[1] + torch.eye(VOCABULARY_SIZE)[4] * 30).log_softmax(-1)
    rows = [
        row(temperature=0.0),
        row(temperature=0.5, shifts={4: 30.0}, logprobs=2),
        row(temperature=0.0, logprobs=0),
    ]
    plain, described, bare = sample(logits, rows)

    assert plain is not None
    assert plain.logprobs is None
    assert described is not None
    assert described.logprobs is not None
    assert described.token_id == described.logprobs.token_id == 4
    assert described.logprobs.logprob == pytest.approx(expected[4].item(), abs=1e-5)
    best = expected.topk(2)
    assert [token for token, _ in described.logprobs.top] == best.indices.tolist()
    assert [value for _, value in described.logprobs.top] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert bare is not None
    assert bare.logprobs is not None
    assert bare.logprobs.top == []


def test_log_probabilities_of_a_prompt_are_those_of_the_tokens_that_came() -> None:
    logits = random_logits(4)
    before = logits.clone()
    described = prompt_logprobs(logits, [5, 6, 7, 8], 20, {})

    assert described is not None
    expected = before.log_softmax(-1)
    assert [each.token_id for each in described] == [5, 6, 7, 8]
    assert [each.logprob for each in described] == pytest.approx([expected[n, 5 + n].item() for n in range(4)])
    assert all(len(each.top) == 20 for each in described)
    assert torch.equal(logits, before)


def test_a_token_that_cannot_be_has_a_log_probability_that_json_can_say() -> None:
    described = prompt_logprobs(torch.tensor([[0.0, -math.inf]]), [1], 2, {})

    assert described is not None
    assert described[0].logprob == SMALLEST_LOGPROB
    assert described[0].top == [(0, 0.0), (1, SMALLEST_LOGPROB)]


def test_log_probabilities_of_a_prompt_that_are_no_numbers_are_none() -> None:
    assert prompt_logprobs(torch.full((2, 4), math.nan), [1, 2], 1, {}) is None
    assert prompt_logprobs(torch.zeros(0, 4), [], 1, {}) == []
