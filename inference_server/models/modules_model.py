"""transformers' own modules on our slots, for every family that `llama` does not compute.

transformers lets a model's attention be replaced by a function (its "attention interface"). Ours writes the keys and
values of all tokens into the slots and attends to them there, so the modules see one packed row of tokens, whatever
sequences they belong to, and a step is one forward pass. That holds for a family whose tokens meet in attention only:
a self-test at load compares it with transformers' plain forward pass, and what differs is refused, never served.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from inference_server.checkpoint.validation import CheckpointProblem
from inference_server.models.attention import SlotAttention, slot_attention
from inference_server.models.batch import Batch, batch
from inference_server.models.llama.linear import Projection, packed
from inference_server.models.llama.weights import Linear
from inference_server.models.model import Chunk
from inference_server.models.quantized import Quantized4Bit, Quantized8Bit
from inference_server.models.slots import LayerShape, Slots

TOLERANCE = {torch.float32: 0.01}
"""How far logits of the self-test may be apart, relative; a wrong mask or position is far beyond half precision's."""
HALF_PRECISION_TOLERANCE = 0.1

_numbers = count()


class ModulesModel:
    """`module`, a causal language model of transformers, with its KV memory; see `models.model.Model`."""

    def __init__(
        self,
        module: Any,
        *,
        slots: int,
        max_model_len: int,
        pages: int,
        eos_token_ids: frozenset[int],
    ) -> None:
        """Put `module` on slots.

        Raises:
            CheckpointProblem: its family cannot be computed like that.
        """
        self.slots, self.max_model_len, self.pages = slots, max_model_len, pages
        self.vocabulary_size = int(module.get_output_embeddings().weight.shape[0])
        self.eos_token_ids = eos_token_ids
        self.module, self.dtype, self.device = module, module.dtype, module.device
        parameters = inspect.signature(module.forward).parameters
        if "position_ids" not in parameters:
            raise CheckpointProblem("ModelUnsupported", _refusal(module, "takes no positions"))
        self._keeps_logits = "logits_to_keep" in parameters
        self._layers: dict[int, int] = {}
        self._windows: list[int | None] = []
        self._shapes: list[LayerShape] = []
        self._step: Batch | None = None
        self._attend: SlotAttention | None = None
        self.memory: Slots | None = None
        with torch.inference_mode():
            self._install()

    @torch.inference_mode()
    def forward(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute `chunks`; see `models.model.Model.forward`."""
        assert self.memory is not None, "the first pass finds the shapes"
        for chunk in chunks:
            self.memory.extend(chunk.slot, chunk.start + len(chunk.token_ids))
        step = batch(chunks, self.device)
        self._step, self._attend = step, slot_attention(step.chunks, self.dtype, self.device)
        try:
            return self._logits(step)
        finally:
            self._step = self._attend = None

    def store_page(self, slot: int, start: int, page: int) -> None:
        """See `models.model.Model`."""
        assert self.memory is not None, "the first pass finds the shapes"
        self.memory.store_page(slot, start, page)

    def load_page(self, page: int, slot: int, start: int) -> None:
        """See `models.model.Model`."""
        assert self.memory is not None, "the first pass finds the shapes"
        self.memory.load_page(page, slot, start)

    def _logits(self, step: Batch) -> Tensor:
        wanted = {"logits_to_keep": step.wanted} if self._keeps_logits else {}
        output = self.module(
            input_ids=step.token_ids[None], position_ids=step.positions[None], use_cache=False, **wanted
        )
        logits: Tensor = output.logits[0] if self._keeps_logits else output.logits[0, step.wanted]
        return logits.float()

    def _attention(
        self, layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **options: Any
    ) -> tuple[Tensor, None]:
        """Be transformers' attention function: all are [1, heads, tokens, width], of a packed row."""
        if self._attend is None or self._step is None or self.memory is None:
            return self._probed(layer, query, key, value, options), None
        number = self._layers[id(layer)]
        keys, values = self.memory.keys[number], self.memory.values[number]
        keys[self._step.slots, :, self._step.positions] = key[0].transpose(0, 1)
        values[self._step.slots, :, self._step.positions] = value[0].transpose(0, 1)
        queries, window = query[0].transpose(0, 1), self._windows[number]
        attended = self._attend(queries, keys, values, options.get("scaling"), window, options.get("softcap"))
        return attended[None], None

    def _probed(self, layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
        """Note what a layer stores and sees; any output of the right shape will do."""
        if id(layer) in self._layers:
            raise CheckpointProblem("ModelUnsupported", _refusal(self.module, "attends twice with one layer"))
        if options.get("s_aux") is not None:
            raise CheckpointProblem("ModelUnsupported", _refusal(self.module, "has attention sinks"))
        self._layers[id(layer)] = len(self._layers)
        self._windows.append(options.get("sliding_window"))
        self._shapes.append(LayerShape(key.shape[1], key.shape[-1], value.shape[-1]))
        return value.new_zeros(1, query.shape[2], query.shape[1], value.shape[-1])

    def _install(self) -> None:
        """Replace the attention, find the layers' shapes, allocate, and compare with transformers' own way."""
        from transformers import AttentionInterface

        _pack_linears(self.module)
        texts = _self_test_texts(self.vocabulary_size, self.slots, self.max_model_len)
        self.module.set_attn_implementation("eager")
        rows = [text[None].to(self.device) for text in texts]
        expected = [self.module(input_ids=row, use_cache=False).logits[0].float() for row in rows]
        name = f"slots_{next(_numbers)}"
        AttentionInterface.register(name, self._attention)
        self.module.set_attn_implementation(name)
        try:
            self._logits(batch([Chunk(0, 0, [0], 1)], self.device))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise CheckpointProblem("ModelUnsupported", _refusal(self.module, f"fails there: {error}")) from error
        if not self._layers:
            raise CheckpointProblem("ModelUnsupported", _refusal(self.module, "has attention of its own"))
        self._check_windows()
        self.memory = Slots(
            self._shapes,
            slots=self.slots,
            max_model_len=self.max_model_len,
            pages=self.pages,
            dtype=self.dtype,
            device=self.device,
        )
        tolerance = TOLERANCE.get(self.dtype, HALF_PRECISION_TOLERANCE)
        if not all(_differ(*pair) <= tolerance for pair in zip(self._by_slots(texts), expected, strict=True)):
            raise CheckpointProblem("ModelUnsupported", _refusal(self.module, "says something else there"))

    def _by_slots(self, texts: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits of `texts`, [tokens, vocab] each, computed together and in pieces."""
        found: list[list[Tensor]] = [[] for _ in texts]
        for piece in range(3):
            chunks = []
            for slot, text in enumerate(texts):
                bounds = (0, len(text) // 2, len(text) - 1, len(text))
                begin, end = bounds[piece], bounds[piece + 1]
                chunks.append(Chunk(slot, begin, text[begin:end].tolist(), end - begin))
            rows = torch.split(self.forward(chunks), [chunk.logits for chunk in chunks])
            for pieces, logits in zip(found, rows, strict=True):
                pieces.append(logits)
        return [torch.cat(pieces) for pieces in found]

    def _check_windows(self) -> None:
        """A window that is only in the mask never reaches us, and a short self-test cannot see that it is missing."""
        config = self.module.config.get_text_config(decoder=True)
        window = getattr(config, "sliding_window", None)
        kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * len(self._windows)
        if unknown := set(kinds) - {"full_attention", "sliding_attention"}:
            raise CheckpointProblem("ModelUnsupported", _refusal(self.module, f"has layers of {', '.join(unknown)}"))
        wanted = [window if kind == "sliding_attention" else None for kind in kinds]
        if window is not None and window < self.max_model_len and self._windows != wanted:
            raise CheckpointProblem("ModelUnsupported", _refusal(self.module, f"hides its window of {window} tokens"))


def _self_test_texts(vocabulary_size: int, slots: int, max_model_len: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [max(4, min(size, max_model_len)) for size in (24, 9)]
    return [torch.randint(vocabulary_size, (size,), generator=generator) for size in sizes[:slots]]


def _differ(found: Tensor, expected: Tensor) -> float:
    """Return the relative distance; NaN where either is no number, which no tolerance admits."""
    return float((found - expected).norm() / expected.norm())


def _refusal(module: Any, why: str) -> str:
    return f"choose another model: {module.config.model_type!r} {why}, so this engine cannot batch it"


def _pack_linears(module: Any) -> None:
    """Give linear layers the projections of our own forward pass: packed, and no row depending on its neighbours."""
    for layer in module.modules():
        if (linear := _linear(layer, module.device)) is not None:
            layer.forward = _on_last_dimension(packed([linear], module.dtype, module.device))


def _linear(layer: Any, device: torch.device) -> Linear | None:
    """Return the weights of `layer` if its own forward pass is not the one to use."""
    weight = getattr(layer, "weight", None)
    if (state := getattr(weight, "quant_state", None)) is not None and device.type == "cpu":
        from bitsandbytes.functional import dequantize_blockwise

        absmax = dequantize_blockwise(state.absmax, state.state2) + state.offset if state.nested else state.absmax
        shape = (state.shape[0], state.shape[1])
        packed_weight = layer.weight.data.reshape(-1).view(torch.uint8)
        return Linear(
            Quantized4Bit(packed_weight, absmax, state.code, state.blocksize, shape, state.quant_type), layer.bias
        )
    if getattr(weight, "SCB", None) is not None:
        return Linear(Quantized8Bit(layer.weight.data, layer.weight.SCB), layer.bias)
    if type(layer) is nn.Linear and layer.weight.dtype == torch.bfloat16 and device.type == "cpu":
        return Linear(layer.weight.detach(), layer.bias)
    return None


def _on_last_dimension(projection: Projection) -> Projection:
    def project(x: Tensor) -> Tensor:
        y = projection(x.reshape(-1, x.shape[-1]))
        # Its width by name: a step that nobody samples from leaves the output head no row to guess it from.
        return y.view(*x.shape[:-1], y.shape[-1])

    return project
