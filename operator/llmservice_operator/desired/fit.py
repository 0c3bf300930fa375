"""Whether a model fits: its context, and the memory of the GPU or of the pod, looked at before any pod is made.

Where it does not, the message proposes what would. Without the model's shape (a cache that an earlier version filled,
source pvc) or without known memory, nothing is refused.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from llmservice_operator.desired import model_facts
from llmservice_operator.desired.cached_model import CachedModel
from llmservice_operator.desired.configuration import Problem
from llmservice_operator.desired.effective import Effective
from llmservice_operator.desired.memory_need import CONTEXT_CAP, Need, Serving, memory_need
from llmservice_operator.desired.model_facts import ModelFacts
from llmservice_operator.diagnosis.model_shape import Quantization
from llmservice_operator.schema import LLMService
from llmservice_operator.schema.quantity import amount

SHORTEST: Final = 512
"""The least maxModelLen that is proposed: a shorter one serves hardly anybody."""
ROUNDED_TO: Final = 128
LONG: Final = 2048
LONG_ROUNDED_TO: Final = 1024
"""What proposals of `LONG` tokens and more are multiples of."""
PRECISE_FIRST: Final[tuple[Quantization, ...]] = ("none", "int8", "nf4")
_GIB: Final = 1 << 30


@dataclass(frozen=True)
class Memory:
    """What a replica has."""

    bytes: int
    name: str
    """What has it, and where that is said."""
    remedy: str
    """What to do to have more."""


def unfit(
    llmservice: LLMService, values: Effective, cache: CachedModel | None, facts: ModelFacts | None
) -> tuple[Problem, ...]:
    """Return why pods that load the model of `facts` could not serve it under this spec; empty where none is known."""
    serving = serving_of(values, cache, facts)
    if serving is None or facts is None:
        return ()
    if serving.max_model_len > serving.shape.context:
        return (Problem("ContextTooLong", _context_too_long(llmservice, facts, serving)),)
    memory = _memory(values)
    need = memory_need(serving)
    if memory is None or need.total <= memory.bytes:
        return ()
    return (Problem("ModelTooLarge", f"{_advice(serving, memory)}: {_account(facts, serving, need, memory)}"),)


def serving_of(values: Effective, cache: CachedModel | None, facts: ModelFacts | None) -> Serving | None:
    """Return how the model of `facts` is served under these values; None where its shape is not known.

    The fake engine, which only an administrator can choose, loads no model.
    """
    shape = None if cache is None or facts is None else cache.shapes.get(facts.key)
    if shape is None or facts is None or values.profile.env.get("LLMSERVICE_ENGINE") == "fake":
        return None
    quantization: Quantization = facts.quantization  # type: ignore[assignment]  # as a verdict has it
    return Serving(
        shape=shape,
        quantization=quantization,
        compute_dtype=facts.compute_dtype,
        max_model_len=values.max_model_len or min(shape.context, CONTEXT_CAP),
        sequences=values.max_batch_size,
        is_on_gpu=values.gpus > 0,
    )


def _memory(values: Effective) -> Memory | None:
    """Return the memory that the model has to fit in, or None where nobody has said how much there is."""
    if values.gpus:
        if values.gpu_memory is None:
            return None
        name = f"a GPU {values.gpu_resource_name} has {values.gpu_memory} (resources.gpu.memory)"
        return Memory(int(amount(values.gpu_memory)), name, "choose a GPU of at least")
    limit = values.limits.get("memory")
    if limit is None:
        return None
    name = f"the pod may use {limit} (resources.limits.memory)"
    return Memory(int(amount(limit)), name, "raise spec.resources.limits.memory to")


def _context_too_long(llmservice: LLMService, facts: ModelFacts, serving: Serving) -> str:
    context, asked_for = serving.shape.context, serving.max_model_len
    if llmservice.spec.engine.max_model_len is not None:
        return f"Lower spec.engine.maxModelLen to {context}: {facts.ref} was made for that, not for {asked_for} tokens"
    return (
        f"Set spec.engine.maxModelLen to {context}: {facts.ref} was made for that, not for the {asked_for} tokens that "
        "are the profile's default"
    )


def _advice(serving: Serving, memory: Memory) -> str:
    """Return what to do, beginning with the smallest change."""
    ways = list(_one_change(serving, memory)) or list(_two_changes(serving, memory))[:1]
    larger = f"{memory.remedy} {-(-memory_need(serving).total // _GIB)}Gi"
    text = ", or ".join([*ways, larger])
    return text[0].upper() + text[1:]


def _one_change(serving: Serving, memory: Memory) -> Iterator[str]:
    longest = _longest(serving, memory)
    if longest is not None:
        yield f"lower spec.engine.maxModelLen to {longest}"
    smaller = next((other for other in _requantized(serving) if memory_need(other).total <= memory.bytes), None)
    if smaller is not None:
        yield f"set spec.engine.quantization.method to {model_facts.method_of(smaller.quantization)}"


def _two_changes(serving: Serving, memory: Memory) -> Iterator[str]:
    for other in _requantized(serving):
        longest = _longest(other, memory)
        if longest is not None:
            method = model_facts.method_of(other.quantization)
            yield f"set spec.engine.quantization.method to {method} and spec.engine.maxModelLen to {longest}"


def _requantized(serving: Serving) -> Iterator[Serving]:
    """Yield the other ways to quantize the weights, the most precise first."""
    if serving.shape.quantization != "none":
        return
    for quantization in PRECISE_FIRST:
        if quantization != serving.quantization:
            yield replace(serving, quantization=quantization)


def _longest(serving: Serving, memory: Memory) -> int | None:
    """Return the largest round maxModelLen with which it fits, or None."""
    lengths = range(SHORTEST, serving.max_model_len + 1, ROUNDED_TO)

    def total(length: int) -> int:
        return memory_need(replace(serving, max_model_len=length)).total

    count = bisect_right(lengths, memory.bytes, key=total)
    if count == 0:
        return None
    longest = lengths[count - 1]
    return longest // LONG_ROUNDED_TO * LONG_ROUNDED_TO if longest >= LONG else longest


def _account(facts: ModelFacts, serving: Serving, need: Need, memory: Memory) -> str:
    kind = "" if serving.quantization == "none" else f"{serving.quantization} "
    return (
        f"{facts.ref} needs {_gi(need.total)} ({kind}weights {_gi(need.weights)}, KV cache of "
        f"{serving.sequences} x {serving.max_model_len} tokens {_gi(need.kv_cache)}), {memory.name}"
    )


def _gi(count: int) -> str:
    return f"{count / _GIB:.1f}Gi"
