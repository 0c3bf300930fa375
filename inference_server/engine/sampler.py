"""Choose the next token of one sequence."""

from __future__ import annotations

import secrets

import torch
from torch import Tensor

from inference_server.engine.interface import SamplingParams


class NonFiniteLogits(Exception):  # noqa: N818 - the fact, as the client and the tests name it
    """The largest logit is NaN or infinite: the weights or their quantization are broken."""


def generator(params: SamplingParams) -> torch.Generator:
    """Return the random numbers of one sequence: its own, so that one seed gives one text whatever runs beside it."""
    seed = secrets.randbits(64) if params.seed is None else params.seed
    return torch.Generator().manual_seed(seed)


def sample(logits: Tensor, params: SamplingParams, generator: torch.Generator) -> int:
    """Draw the next token from `logits`, float [vocab], of one position.

    Greedy at temperature 0. Nucleus filtering as in Holtzman et al. 2020, arXiv:1904.09751: the smallest set of most
    likely tokens that holds `top_p` of the mass. The draw inverts the cumulative distribution in order of likelihood,
    one uniform number for each token.

    Raises:
        NonFiniteLogits: there is nothing to choose from.
    """
    logits = logits.float()
    if not torch.isfinite(logits.max()):
        raise NonFiniteLogits
    if params.temperature == 0:
        return int(logits.argmax())
    # Shifted before the division: a tiny temperature then gives -inf for all but the best instead of inf - inf.
    probabilities = torch.softmax((logits - logits.max()) / params.temperature, dim=-1)
    likely, tokens = probabilities.sort(descending=True, stable=True)
    mass = likely.double().cumsum(dim=-1)
    if params.top_p < 1:
        kept = int(torch.searchsorted(mass, params.top_p).clamp(max=mass.numel() - 1)) + 1
        mass = mass[:kept]
    uniform = torch.rand((), generator=generator, dtype=torch.float64).to(mass.device)
    drawn = torch.searchsorted(mass, uniform * mass[-1], right=True).clamp(max=mass.numel() - 1)
    return int(tokens[drawn])
