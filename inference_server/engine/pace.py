"""How many prompt tokens a step may take beside the sequences that it advances: so that streams keep their pace.

Every running stream waits for the whole step, so a step has a target in seconds, and the budget is what is expected to
fit into it. The target weighs who waits for whom: one prompt beside many streams pauses them for STREAM_SECONDS, while
many prompts beside few streams (a burst of arrivals) get as much more as they are more, because every prompt that is
through makes the later steps fuller. With nothing to keep up, a step is full at PREFILL_TOKENS, where the matrix
products have long reached their peak, or after IDLE_SECONDS, so that a cancellation or an arrival on a slow machine
need not wait longer. Prompts never get less than PREFILL_AT_LEAST_TOKENS: they must come through as well.

What a step costs is learned as a sum: a fixed part, one for each decoding sequence, one for each prompt token. So a
small chunk, whose step is mostly fixed cost, does not make a prompt token look dear, and the next chunk smaller still.
"""

from __future__ import annotations

PREFILL_TOKENS = 1024
PREFILL_AT_LEAST_TOKENS = 64
STREAM_SECONDS = 0.35
IDLE_SECONDS = 2.0
SLOW_DECODE_FACTOR = 5
"""Where a step without any prompt takes long already, one with prompts may take this many times as long."""
LEARNING_RATE = 0.3
"""Share of the difference between expected and measured seconds that one step corrects."""
SCALE = (1.0, 1 / 16, 1 / 256)
"""Brings one step, its decoding sequences and its prompt tokens to one size, so that each takes its share of blame."""
SHORTEST_STEP_SECONDS = 1e-5


class Pace:
    """Learns from measured steps what they cost, and fits the next one into its target."""

    def __init__(self) -> None:
        self._costs = [0.0, 0.0, 0.0]
        self._ceiling = PREFILL_TOKENS

    def prefill_tokens(self, decoding: int, prefilling: int) -> int:
        """Return the budget of a step that advances `decoding` sequences while `prefilling` prompts have a slot."""
        seconds = IDLE_SECONDS
        if decoding:
            decode_seconds = self._expected(decoding, 0)
            target = min(STREAM_SECONDS * (1 + prefilling / decoding), IDLE_SECONDS)
            seconds = max(target, SLOW_DECODE_FACTOR * decode_seconds) - decode_seconds
        token_seconds = max(self._costs[2] * SCALE[2], SHORTEST_STEP_SECONDS / PREFILL_TOKENS)
        return max(PREFILL_AT_LEAST_TOKENS, min(int(seconds / token_seconds), self._ceiling))

    def measured(self, prefill_tokens: int, decode_tokens: int, seconds: float) -> None:
        """Learn from a step that took `seconds`: normalized least mean squares, with no cost below 0."""
        self._ceiling = min(PREFILL_TOKENS, self._ceiling + PREFILL_AT_LEAST_TOKENS // 4)
        sizes = _sizes(decode_tokens, prefill_tokens)
        error = seconds - self._expected(decode_tokens, prefill_tokens)
        correction = LEARNING_RATE * error / sum(size * size for size in sizes)
        self._costs = [max(cost + correction * size, 0.0) for cost, size in zip(self._costs, sizes, strict=True)]

    def rehearsed(self, prefill_tokens: int, prefill_seconds: float, decode_seconds: float) -> None:
        """Start from the cost of one prompt alone and of one decoding sequence alone, before anything is learned."""
        fixed = min(decode_seconds, prefill_seconds / 2)
        token_seconds = (prefill_seconds - fixed) / prefill_tokens
        self._costs = [fixed, 0.0, token_seconds / SCALE[2]]

    def ran_out_of_memory(self, prefill_tokens: int) -> None:
        """Halve what did not fit into memory for the next steps; it grows back step by step."""
        self._ceiling = max(PREFILL_AT_LEAST_TOKENS, min(self._ceiling, prefill_tokens // 2))

    def _expected(self, decode_tokens: int, prefill_tokens: int) -> float:
        return sum(cost * size for cost, size in zip(self._costs, _sizes(decode_tokens, prefill_tokens), strict=True))


def _sizes(decode_tokens: int, prefill_tokens: int) -> tuple[float, float, float]:
    return SCALE[0], decode_tokens * SCALE[1], prefill_tokens * SCALE[2]
