"""What the machine could do at best: its read bandwidth and its bf16 GEMM peak, and the tokens per second they allow.

    python -m benchmarks.limits

measures both in a process of its own and prints them as JSON; `physical_limit` is arithmetic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

READ_BYTES = 2**30
"""Far more than a cache holds."""
ROWS, INNER, OUTER = 1024, 2048, 8192
REPEATS = 5


@dataclass(frozen=True)
class Sizes:
    """What one token costs: multiplied weights of the blocks and of the output layer, KV values of one token."""

    block_weights: int
    head_weights: int
    kv_values: int


def sizes(config: Mapping[str, Any]) -> Sizes:
    """Return the sizes of a Llama model from its config.json."""
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    block = hidden * (2 * queries + 2 * keys + 3 * inner)
    return Sizes(layers * block, config["vocab_size"] * hidden, 2 * layers * keys)


def physical_limit(
    model: Sizes, read_bytes_per_second: float, flops: float, concurrency: int, prompt_tokens: int, new_tokens: int
) -> float:
    """Return the tokens per second that no engine on this machine can pass, in bf16, for requests that start together.

    Prompts go through at the GEMM peak, the output layer for their last token only; the first token comes with the
    prompt. A decode step then takes as long as reading weights and KV, or as multiplying for all sequences.
    """
    weights = model.block_weights + model.head_weights
    prefill = 2 * (model.block_weights * prompt_tokens + model.head_weights) / flops
    kv = concurrency * model.kv_values * (prompt_tokens + new_tokens / 2)
    step = max(2 * (weights + kv) / read_bytes_per_second, 2 * weights * concurrency / flops)
    return concurrency * new_tokens / (concurrency * prefill + (new_tokens - 1) * step)


def measure() -> dict[str, float]:
    """Return the read bandwidth in bytes per second and the bf16 peak in FLOP/s, the best of a few tries each."""
    import torch

    values = torch.ones(READ_BYTES // 4)
    read = READ_BYTES / _best(values.sum)
    del values
    rows = torch.randn(ROWS, INNER, dtype=torch.bfloat16)
    weights = torch.randn(OUTER, INNER, dtype=torch.bfloat16)
    packed = torch.ops.mkldnn._reorder_linear_weight(weights, ROWS)
    plain = _best(lambda: torch.nn.functional.linear(rows, weights))
    fast = _best(lambda: torch.ops.mkldnn._linear_pointwise(rows, packed, None, "none", [], ""))
    return {"read_bytes_per_second": read, "bf16_flops": 2 * ROWS * INNER * OUTER / min(plain, fast)}


def _best(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS + 1):
        began = perf_counter()
        run()
        seconds.append(perf_counter() - began)
    return min(seconds[1:])


if __name__ == "__main__":
    print(json.dumps(measure()))
