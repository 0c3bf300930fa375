"""How many prompt tokens a step may take beside the sequences that it advances: so that streams keep their pace.

Every running stream waits for the whole step, so a step has a target in seconds, and the budget is what is measured to
fit into it. The target weighs who waits for whom: one prompt beside many streams pauses them for STREAM_SECONDS, while
many prompts beside few streams (a burst of arrivals) get as much more as they are more, because every prompt that is
through makes the later steps fuller. With nothing to keep up, a step is full at PREFILL_TOKENS, where the matrix
products have long reached their peak, or after IDLE_SECONDS, so that a cancellation or an arrival on a slow machine
need not wait longer. Prompts never get less than PREFILL_AT_LEAST_TOKENS: they must come through as well.
"""

from __future__ import annotations

PREFILL_TOKENS = 1024
PREFILL_AT_LEAST_TOKENS = 64
STREAM_SECONDS = 0.25
IDLE_SECONDS = 2.0
SLOW_DECODE_FACTOR = 3
"""Where a step without any prompt takes long already, one with prompts may take this many times as long."""
WEIGHT = 0.3
"""Share of the newest measurement in an average."""


class Pace:
    """Learns from measured steps what a prompt token and a decode step cost, in seconds."""

    def __init__(self) -> None:
        self._token_seconds = 0.0
        self._decode_seconds = 0.0
        self._ceiling = PREFILL_TOKENS

    def prefill_tokens(self, decoding: int, prefilling: int) -> int:
        """Return the budget of a step that advances `decoding` sequences while `prefilling` prompts have a slot."""
        seconds = IDLE_SECONDS
        if decoding:
            target = STREAM_SECONDS * (1 + prefilling / decoding)
            seconds = max(target, SLOW_DECODE_FACTOR * self._decode_seconds) - self._decode_seconds
        fits = int(seconds / self._token_seconds) if self._token_seconds else PREFILL_TOKENS
        return max(PREFILL_AT_LEAST_TOKENS, min(fits, self._ceiling))

    def measured(self, prefill_tokens: int, decode_tokens: int, seconds: float) -> None:
        """Learn from a step that took `seconds`."""
        self._ceiling = min(PREFILL_TOKENS, self._ceiling + PREFILL_AT_LEAST_TOKENS // 4)
        if not prefill_tokens:
            self._decode_seconds = _average(self._decode_seconds, seconds)
        elif prefill_tokens >= PREFILL_AT_LEAST_TOKENS:
            # Fewer tokens say little about the cost of one: they cost what reading the weights costs.
            own = max(seconds - self._decode_seconds, seconds / 4) if decode_tokens else seconds
            self._token_seconds = _average(self._token_seconds, own / prefill_tokens)

    def ran_out_of_memory(self, prefill_tokens: int) -> None:
        """Halve what did not fit into memory for the next steps; it grows back step by step."""
        self._ceiling = max(PREFILL_AT_LEAST_TOKENS, min(self._ceiling, prefill_tokens // 2))


def _average(old: float, new: float) -> float:
    return old + WEIGHT * (new - old) if old else new
