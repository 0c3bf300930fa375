"""Our own forward pass of the Llama family, in torch, for any device; see `models.model.Model` for the contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from inference_server.models.attention import Attend, slot_attention
from inference_server.models.batch import Batch, batch
from inference_server.models.llama import rope
from inference_server.models.llama.config import LlamaConfig
from inference_server.models.llama.linear import Projection, dense, packed
from inference_server.models.llama.weights import Layer, LlamaWeights
from inference_server.models.model import Chunk
from inference_server.models.slots import LayerShape, Slots

if TYPE_CHECKING:
    from inference_server.models.llama.cuda import DecodeGraphs


@dataclass(frozen=True, slots=True)
class Block:
    """A layer as it is computed: queries, keys and values in one projection, gate and up in another."""

    qkv: Projection
    output: Projection
    gate_up: Projection
    down: Projection
    input_norm: Tensor
    post_attention_norm: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None


class LlamaModel:
    """A model with its KV memory on `device`, computing in `dtype`."""

    def __init__(
        self,
        config: LlamaConfig,
        weights: LlamaWeights,
        *,
        slots: int,
        max_model_len: int,
        pages: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.slots, self.max_model_len, self.pages = slots, max_model_len, pages
        self.vocabulary_size, self.eos_token_ids = config.vocabulary_size, config.eos_token_ids
        self.config, self.dtype, self.device = config, dtype, device
        shape = LayerShape(config.kv_heads, config.head_dim, config.head_dim)
        # Before the weights: a GPU keeps second copies of them in what memory is left, and the slots are no less.
        self.memory = Slots(
            [shape] * config.layers, slots=slots, max_model_len=max_model_len, pages=pages, dtype=dtype, device=device
        )
        self._embedding = weights.embedding.to(device, dtype)
        self._blocks = [_block(layer, dtype, device) for layer in weights.layers]
        self._norm = weights.norm.to(device, dtype)
        self._head = dense(self._embedding if config.tied_embeddings else weights.head.to(device, dtype), None)
        self._cosines, self._sines = rope.tables(config.rope, config.head_dim, self.memory.length, dtype, device)
        self._graphs = self._decode_graphs() if device.type == "cuda" else None

    @torch.inference_mode()
    def forward(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute `chunks`; see `models.model.Model.forward`."""
        for chunk in chunks:
            self.memory.extend(chunk.slot, chunk.start + len(chunk.token_ids))
        if self._graphs is not None and (logits := self._graphs.logits(chunks)) is not None:
            return logits
        step = batch(chunks, self.device)
        return self.logits(step, self._attention(step.chunks))

    def store_page(self, slot: int, start: int, page: int) -> None:
        """See `models.model.Model`."""
        self.memory.store_page(slot, start, page)

    def load_page(self, page: int, slot: int, start: int) -> None:
        """See `models.model.Model`."""
        self.memory.load_page(page, slot, start)

    def logits(self, step: Batch, attend: Attend) -> Tensor:
        """Write the keys and values of `step` into the slots and return its wanted logits, float32 [wanted, vocab]."""
        config = self.config
        x = functional.embedding(step.token_ids, self._embedding)
        cosines, sines = self._cosines[step.positions], self._sines[step.positions]
        queries, rotating = config.heads, config.heads + config.kv_heads
        for number, block in enumerate(self._blocks):
            keys, values = self.memory.keys[number], self.memory.values[number]
            qkv = block.qkv(self._normed(x, block.input_norm)).view(-1, rotating + config.kv_heads, config.head_dim)
            qk = rope.rotated(self._heads_normed(qkv[:, :rotating], block), cosines, sines)
            keys[step.slots, :, step.positions] = qk[:, queries:]
            values[step.slots, :, step.positions] = qkv[:, rotating:]
            attended = attend(qk[:, :queries], keys, values)
            if number == config.layers - 1:
                # From here on no token looks at another, so those nobody asks for are done.
                if len(step.wanted) == 0:
                    return torch.empty(0, self.vocabulary_size, device=self.device)
                attended, x = attended[step.wanted], x[step.wanted]
            x = x + block.output(attended.flatten(1))
            gate, up = block.gate_up(self._normed(x, block.post_attention_norm)).chunk(2, dim=-1)
            x = x + block.down(functional.silu(gate) * up)
        return self._head(self._normed(x, self._norm)).float()

    def _attention(self, ordered: Sequence[Chunk]) -> Attend:
        if self.device.type == "cuda":
            from inference_server.models.llama import cuda

            if cuda.attends_on_gpu(self.dtype, self.config.head_dim):
                return cuda.varlen_attention(ordered, self.memory, self.device)
        return slot_attention(ordered, self.dtype, self.device)

    @torch.inference_mode()
    def _decode_graphs(self) -> DecodeGraphs | None:
        from inference_server.models.llama import cuda

        if not cuda.attends_on_gpu(self.dtype, self.config.head_dim):
            return None
        return cuda.DecodeGraphs(self.logits, self.memory, self.device, cuda.captured_on_gpu)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), weight, self.config.rms_eps)

    def _heads_normed(self, qk: Tensor, block: Block) -> Tensor:
        """Normalize queries and keys [tokens, heads, width] each head on its own, where the family does (Qwen3)."""
        if block.q_norm is None or block.k_norm is None:
            return qk
        queries = self.config.heads
        normed = (self._normed(qk[:, :queries], block.q_norm), self._normed(qk[:, queries:], block.k_norm))
        return torch.cat(normed, dim=1)


def _block(layer: Layer, dtype: torch.dtype, device: torch.device) -> Block:
    return Block(
        qkv=packed([layer.q, layer.k, layer.v], dtype, device),
        output=packed([layer.o], dtype, device),
        gate_up=packed([layer.gate, layer.up], dtype, device),
        down=packed([layer.down], dtype, device),
        input_norm=layer.input_norm.to(device, dtype),
        post_attention_norm=layer.post_attention_norm.to(device, dtype),
        q_norm=None if layer.q_norm is None else layer.q_norm.to(device, dtype),
        k_norm=None if layer.k_norm is None else layer.k_norm.to(device, dtype),
    )
