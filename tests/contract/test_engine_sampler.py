import pytest
import torch

from inference_server.engine.interface import SamplingParams
from inference_server.engine.sampler import NonFiniteLogits, generator, sample


def params(**values: float) -> SamplingParams:
    return SamplingParams(max_tokens=1, **{"temperature": 1.0, **values})  # type: ignore[arg-type]


def draws(logits: list[float], count: int, **values: float) -> list[int]:
    wanted = params(seed=3, **values)
    random = generator(wanted)
    return [sample(torch.tensor(logits), wanted, random) for _ in range(count)]


def test_temperature_zero_takes_the_largest_logit() -> None:
    assert draws([0.1, 2.0, 1.9], 3, temperature=0.0) == [1, 1, 1]


def test_draws_follow_the_probabilities() -> None:
    drawn = draws([0.0, 1.0986], 2000)  # 1 : 3

    assert 0.70 < sum(drawn) / len(drawn) < 0.80


def test_top_p_keeps_the_smallest_set_that_holds_the_mass() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().tolist()

    assert set(draws(logits, 300, top_p=0.6)) == {0, 1}
    assert set(draws(logits, 300, top_p=0.01)) == {0}
    assert set(draws(logits, 300, top_p=1.0)) == {0, 1, 2, 3}


def test_a_tiny_temperature_is_nearly_greedy_and_stays_finite() -> None:
    assert set(draws([50.0, 49.0, -50.0], 20, temperature=1e-6)) == {0}


def test_masked_logits_are_never_drawn() -> None:
    assert set(draws([float("-inf"), 0.0, 0.0], 100)) == {1, 2}


def test_the_largest_seed_is_accepted() -> None:
    assert sample(torch.zeros(2), params(), generator(params(seed=2**64 - 1))) in (0, 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(NonFiniteLogits):
        sample(torch.tensor([0.0, bad]), params(), generator(params()))
