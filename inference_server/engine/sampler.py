"""Choose the next token of every sequence of a batch, each by its own parameters, and describe how likely it was.

A draw inverts the cumulative distribution in the order of token ids, with one uniform number that only the seed and the
token's position decide. Whatever runs beside a sequence may change the last bits of its logits; in this order that
moves a boundary between two tokens by as little, while in the order of likelihood two tokens that are nearly equal
would change places. Nothing is sorted: the nucleus (Holtzman et al. 2020, arXiv:1904.09751) is found by counting.
Runs on the device of the logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from inference_server.engine.interface import SamplingParams, TokenLogprobs

SMALLEST_TEMPERATURE = 1e-5
SMALLEST_TOP_P = 1e-9
SMALLEST_LOGPROB = -9999.0
"""What is reported for a token that cannot occur: JSON knows no infinity."""
BLOCK = 64
"""Width of the blocks in which the vocabulary is searched: first for the block, then within it."""
BITS = 12
"""A weight is between 0 and 1, so its float32 bits, as a whole number, are ordered as the weights are: the nucleus's
end is searched for by their first BITS, which are those after the sign, then by the next."""
LEVELS = 1 << BITS
LIKELY_BLOCKS = 64
"""In how many blocks, those with the largest weights, the nucleus is looked for first."""


class Row(NamedTuple):
    """A sequence that wants a token: `position` is how many it has, `shifts` adds to the logits of single ids."""

    params: SamplingParams
    seed: int
    position: int
    shifts: Mapping[int, float]


class Choice(NamedTuple):
    """A chosen token; `logprobs` if they were asked for."""

    token_id: int
    logprobs: TokenLogprobs | None = None


def sample(logits: Tensor, rows: Sequence[Row]) -> list[Choice | None]:
    """Choose a token for each of `rows` from float32 `logits` [rows, vocab], which are overwritten.

    None stands for a row without a choice: its largest logit is not a finite number, so the weights or their
    quantization are broken. Greedy at temperature 0; of equal logits the lowest id.
    """
    _shift(logits, [row.shifts for row in rows])
    tokens = _largest(logits)
    best = logits.gather(-1, tokens)
    drawn = [index for index, row in enumerate(rows) if row.params.temperature > 0]
    if len(drawn) == len(rows):
        tokens = _draw(logits, best, rows)
    elif drawn:
        at = torch.tensor(drawn, device=logits.device)
        tokens[at] = _draw(logits[at], best[at], [rows[index] for index in drawn])
    asked = {index: top for index, row in enumerate(rows) if (top := row.params.logprobs) is not None}
    described = None
    if asked:
        at = torch.tensor(list(asked), device=logits.device)
        described = _described(logits[at], tokens[at], max(asked.values()))
    chosen = torch.where(best.isfinite(), tokens, -1).squeeze(1).tolist()
    choices = [Choice(token) if token >= 0 else None for token in chosen]
    if described is not None:
        for (index, top), numbers in zip(asked.items(), described.tolist(), strict=True):
            if choices[index] is not None:
                choices[index] = Choice(chosen[index], _logprobs(chosen[index], numbers, top))
    return choices


def prompt_logprobs(
    logits: Tensor, token_ids: Sequence[int], top: int, shifts: Mapping[int, float]
) -> list[TokenLogprobs] | None:
    """Return the log-probabilities of `token_ids` [n], which came after the positions of `logits` [n, vocab].

    None if they are not numbers.
    """
    logits = logits.clone()
    _shift(logits, [shifts] * len(token_ids))
    tokens = torch.tensor(token_ids, device=logits.device)[:, None]
    described = _described(logits, tokens, top)
    if not bool(described.isfinite().all()):
        return None
    return [_logprobs(token, numbers, top) for token, numbers in zip(token_ids, described.tolist(), strict=True)]


def uniform(seed: int, position: int) -> float:
    """Return a number in [0, 1) for a token: SplitMix64 (Steele et al. 2014) at `position` of the stream of `seed`."""
    mixed = _mix(_mix(seed) + (position + 1) * 0x9E3779B97F4A7C15)
    return (mixed >> 11) * 2.0**-53


def _mix(state: int) -> int:
    mask = 0xFFFFFFFFFFFFFFFF
    state &= mask
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def _shift(logits: Tensor, shifts: Sequence[Mapping[int, float]]) -> None:
    """Add to the logits of single tokens, in place."""
    if not any(shifts):
        return
    rows = [row for row, shift in enumerate(shifts) for _ in shift]
    tokens = [token for shift in shifts for token in shift]
    values = [value for shift in shifts for value in shift.values()]
    at = torch.tensor([rows, tokens], device=logits.device)
    logits[at[0], at[1]] += torch.tensor(values, dtype=logits.dtype, device=logits.device)


def _largest(logits: Tensor) -> Tensor:
    """Return the ids of the largest logits, [rows, 1]; NaN counts as largest.

    By way of the largest of each block, which is found with vector instructions: 5 times as fast as argmax on a CPU.
    """
    if logits.shape[-1] % BLOCK:
        return logits.argmax(-1, keepdim=True)
    blocks = logits.view(len(logits), -1, BLOCK)
    block = blocks.amax(-1).argmax(-1, keepdim=True)
    return block * BLOCK + _block(blocks, block).argmax(-1, keepdim=True)


def _block(blocks: Tensor, index: Tensor) -> Tensor:
    """Return the block at `index` [rows, 1] of each row of `blocks` [rows, blocks, BLOCK]: [rows, BLOCK]."""
    return blocks.gather(1, index[:, :, None].expand(-1, -1, BLOCK)).squeeze(1)


def _draw(logits: Tensor, best: Tensor, rows: Sequence[Row]) -> Tensor:
    """Draw a token of each row, [rows, 1]. `best` are the largest logits, [rows, 1]; rows without one get any token."""
    device = logits.device
    temperatures = [max(row.params.temperature, SMALLEST_TEMPERATURE) for row in rows]
    # Shifted before the division: a tiny temperature then gives -inf for all but the best instead of inf - inf.
    relative = (logits - best).div_(torch.tensor(temperatures, dtype=logits.dtype, device=device)[:, None])
    # With zeros at the end, so that it falls into whole blocks.
    weights = logits.new_empty(len(rows), -(-logits.shape[-1] // BLOCK) * BLOCK)
    weights[:, logits.shape[-1] :] = 0.0
    torch.exp(relative, out=weights[:, : logits.shape[-1]])
    if any(row.params.top_p < 1 for row in rows):
        kept = [max(row.params.top_p, SMALLEST_TOP_P) for row in rows]
        top_p = torch.tensor(kept, dtype=torch.float64, device=device)[:, None]
        # As floats, because comparisons to bool and products with bool are not vectorized on a CPU.
        weights.mul_(torch.ge(weights, _least_of_nucleus(weights, top_p), out=torch.empty_like(weights)))
    blocks = weights.view(len(rows), -1, BLOCK)
    mass = blocks.sum(-1).cumsum(-1, dtype=torch.float64)
    numbers = [uniform(row.seed, row.position) for row in rows]
    wanted = torch.tensor(numbers, dtype=torch.float64, device=device)[:, None] * mass[:, -1:]
    block = _first_above(mass, wanted)
    before = torch.where(block > 0, mass.gather(-1, (block - 1).clamp_(min=0)), 0.0)
    within = _block(blocks, block).cumsum(-1, dtype=torch.float64)
    tokens = block * BLOCK + _first_above(within, wanted - before)
    return tokens.clamp_(max=logits.shape[-1] - 1)


def _first_above(mass: Tensor, wanted: Tensor) -> Tensor:
    """Return where the cumulative `mass` [rows, n] first exceeds `wanted` [rows, 1]: there the mass grows."""
    # Rounding may put a wanted mass at the end, after the last token that has any.
    return torch.searchsorted(mass, torch.minimum(wanted, mass[:, -1:] * (1 - 2.0**-40)), right=True).clamp_(
        max=mass.shape[-1] - 1
    )


def _least_of_nucleus(weights: Tensor, top_p: Tensor) -> Tensor:
    """Return the least weight among the most likely tokens that together hold `top_p` of the mass, [rows, 1].

    The whole vocabulary is searched only where the blocks with the largest weights do not hold that much.
    """
    blocks = weights.view(len(weights), -1, BLOCK)
    wanted = top_p * blocks.sum(-1).sum(-1, keepdim=True, dtype=torch.float64)
    if blocks.shape[1] > 2 * LIKELY_BLOCKS:
        largest, index = blocks.amax(-1).topk(LIKELY_BLOCKS + 1)
        likely = blocks.gather(1, index[:, :LIKELY_BLOCKS, None].expand(-1, -1, BLOCK)).flatten(1)
        least = _least_that_hold(likely, wanted)
        # No other block has a weight as large as the least, so none of the nucleus.
        if bool(((least > largest[:, -1:]) | (top_p == 1)).all()):
            return torch.where(top_p < 1, least, 0.0)
    return torch.where(top_p < 1, _least_that_hold(weights, wanted), 0.0)


def _least_that_hold(weights: Tensor, wanted: Tensor) -> Tensor:
    """Return the least of the largest of `weights` [rows, n] whose sum is `wanted` [rows, 1]; about 0 if all are less.

    It is exact to 1 in 65,000: tokens that are as likely but for this are kept or dropped together.
    """
    rows, bits = weights.shape[0], weights.view(torch.int32)
    coarse = (bits >> (31 - BITS)) & (LEVELS - 1)
    counts = weights.new_zeros(rows, LEVELS).scatter_add_(-1, coarse.long(), weights)
    end, wanted = _end_of_nucleus(counts, wanted)
    row, column = (coarse == end).nonzero(as_tuple=True)
    next_bits = (bits[row, column] >> (31 - 2 * BITS)) & (LEVELS - 1)
    counts = weights.new_zeros(rows * LEVELS).scatter_add_(0, row * LEVELS + next_bits, weights[row, column])
    fine_end, _ = _end_of_nucleus(counts.view(rows, LEVELS), wanted)
    return (((end << BITS) + fine_end) << (31 - 2 * BITS)).view(torch.float32)


def _end_of_nucleus(counts: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the level of `counts` [rows, LEVELS] down to which they hold `wanted` [rows, 1], int32 [rows, 1].

    And how much of it is wanted of that level.
    """
    mass = counts.flip(-1).cumsum(-1, dtype=torch.float64)
    end = torch.searchsorted(mass, wanted).clamp_(max=LEVELS - 1)
    before = torch.where(end > 0, mass.gather(-1, (end - 1).clamp_(min=0)), 0.0)
    return (LEVELS - 1 - end).int(), wanted - before


def _described(logits: Tensor, tokens: Tensor, top: int) -> Tensor:
    """Return, as float64 [rows, 1 + 2 top], the log-probability of `tokens` [rows, 1], the largest, and their ids."""
    table = logits.log_softmax(-1)
    likeliest = table.topk(min(top, table.shape[-1]), dim=-1)
    values = torch.cat([table.gather(-1, tokens), likeliest.values], dim=-1).clamp_(min=SMALLEST_LOGPROB)
    return torch.cat([values.double(), likeliest.indices.double()], dim=-1)


def _logprobs(token_id: int, numbers: list[float], top: int) -> TokenLogprobs:
    """Return one row of `_described` as the first `top` of what it holds."""
    width = len(numbers) // 2
    ids, values = numbers[1 + width :], numbers[1 : 1 + width]
    likeliest = [(int(other), value) for other, value in zip(ids, values, strict=True)]
    return TokenLogprobs(token_id, numbers[0], likeliest[:top])
