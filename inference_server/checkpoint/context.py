"""How many tokens the model of a checkpoint has learned to see, from its config alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference_server.checkpoint.validation import text_config

DEFAULT_CONTEXT = 2048
"""For the few families whose config names no context length."""
LARGEST_FACTOR = 1024
ORIGINAL = "original_max_position_embeddings"


def context_of(config: Mapping[str, Any]) -> int:
    """Return how many tokens the model has learned to see.

    LongRoPE changes with the longest sequence of a batch; below its original length it does not. YaRN stretches the
    original length by its factor, which some configs leave out of `max_position_embeddings`.
    """
    text = text_config(config)
    context = int(text.get("max_position_embeddings") or text.get("n_positions") or DEFAULT_CONTEXT)
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        return context
    original = rope.get(ORIGINAL)
    match rope.get("rope_type", rope.get("type")):
        case "longrope":
            return int(text.get(ORIGINAL) or original or context)
        case "yarn" if isinstance(original, int) and _is_factor(rope.get("factor")):
            return max(context, int(original * rope["factor"]))
        case _:
            return context


def _is_factor(value: Any) -> bool:
    return isinstance(value, int | float) and 1 <= value <= LARGEST_FACTOR
