"""Load a checkpoint: from a folder, offline, never running a line of what it holds, and by the fastest way there is.

A Llama-family model is our own forward pass, loaded without transformers, whose imports take longer than everything
else; every other family is transformers' modules. Both are on the same slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from inference_server.checkpoint.context import context_of
from inference_server.checkpoint.digest import check_digest
from inference_server.checkpoint.validation import (
    CheckpointProblem,
    Method,
    check_weights,
    effective_quantization,
    own_quantization,
    read_config,
    read_json,
    text_config,
)
from inference_server.engine.interface import EngineConfig, LoadFailure, Progress
from inference_server.models.context import usable_context
from inference_server.models.llama.config import LlamaConfig, eos_token_ids, llama_config
from inference_server.models.llama.model import LlamaModel
from inference_server.models.llama.weights import LlamaWeights, quantized, read_weights
from inference_server.models.model import PAGE_TOKENS, Chunk, Model
from inference_server.models.native_model import NativeModel, runs_natively

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
FIRST_TOKENS = 8
"""Of the prompt that shows whether the weights make sense."""
SHARE_OF_PAGES = 4
"""The prefix cache has pages for one in so many tokens of the slots."""

Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready for forward passes, how it is quantized and where it is; `context` is what its config says."""

    model: Model
    quantization: Method
    device: str
    context: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be loaded and how: all that follows from the settings and the checkpoint's configs."""

    folder: Path
    config: Mapping[str, Any]
    generation_config: Mapping[str, Any] | None
    method: Method
    double_quant: bool
    dtype: torch.dtype
    device: torch.device
    context: int
    max_model_len: int
    slots: int
    pages: int
    llama: LlamaConfig | None

    @property
    def quantizes(self) -> bool:
        """Whether the weights are quantized at load; otherwise they are as they lie there."""
        return self.method != "none" and own_quantization(self.config) == "none"


def load(config: EngineConfig, report: Report) -> LoadedModel:
    """Check the checkpoint that `config` names and load it.

    Raises:
        CheckpointProblem: the checkpoint cannot be served.
        LoadFailure: this machine cannot serve it.
    """
    plan = planned(config)
    if config.expected_digest is not None:
        check_digest(plan.folder, config.expected_digest, partial(_hashed, report))
    model = _llama(plan, plan.llama, report) if plan.llama is not None else _modules(plan, report)
    # The first pass also does what only happens once: it fills allocators and packs what is quantized.
    first = [0] * min(FIRST_TOKENS, plan.max_model_len)
    if not torch.isfinite(model.forward([Chunk(0, 0, first, 1)])).all():
        raise CheckpointProblem("ModelInvalid", "use other weights: the model computes something that is not a number")
    return LoadedModel(model, plan.method, str(plan.device), plan.context)


def planned(config: EngineConfig) -> Plan:
    """Return how to load what `config` names; reads the configs and the headers of the weights.

    Raises:
        CheckpointProblem, LoadFailure: as `load`.
    """
    assert config.model_path is not None, "the settings name a folder whenever the engine is not the fake"
    folder = Path(config.model_path)
    content = read_config(folder)
    method = effective_quantization(content, config.quantization)
    check_weights(folder)
    device = pick_device(config.device)
    context = context_of(content)
    max_model_len = usable_context(context, config.max_model_len)
    generation_path = folder / "generation_config.json"
    generation_config = read_json(generation_path) if generation_path.is_file() else None
    tokens = max_model_len * config.max_batch_size
    return Plan(
        folder=folder,
        config=content,
        generation_config=generation_config,
        method=method,
        double_quant=config.double_quant,
        dtype=pick_dtype(content, config.compute_dtype, method, device),
        device=device,
        context=context,
        max_model_len=max_model_len,
        slots=config.max_batch_size,
        pages=tokens // SHARE_OF_PAGES // PAGE_TOKENS if config.prefix_cache else 0,
        llama=llama_config(content, generation_config, max_model_len),
    )


def _hashed(report: Report, done: int, total: int) -> None:
    report(Progress(done=done, total=total, unit="bytes"))


def pick_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device; `auto` is the first GPU, and the CPU where there is none."""
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if wanted == "cuda":
        raise LoadFailure(
            "set the device to auto or cpu, or schedule the pod on a node with a GPU: no CUDA device is visible",
            exit_code=78,
        )
    return torch.device("cpu")


def pick_dtype(config: Mapping[str, Any], wanted: str, method: Method, device: torch.device) -> torch.dtype:
    """Return the dtype of activations and of weights that are not quantized.

    `auto` is bfloat16 for quantized models (the fused kernels are made for it) and the checkpoint's own otherwise, but
    bfloat16 for float16 on a CPU, which computes float16 far more slowly.
    """
    if wanted != "auto":
        return DTYPES[wanted]
    own = DTYPES.get(str(config.get("dtype") or config.get("torch_dtype") or text_config(config).get("dtype")))
    if method != "none" or own is None or (own == torch.float16 and device.type == "cpu"):
        return torch.bfloat16
    return own


def _llama(plan: Plan, config: LlamaConfig, report: Report) -> Model:
    weights = llama_weights(plan, config, report)
    sizes = {"slots": plan.slots, "max_model_len": plan.max_model_len, "pages": plan.pages}
    if plan.device.type == "cpu" and runs_natively(config, weights, plan.dtype):
        return NativeModel(config, weights, **sizes, threads=torch.get_num_threads())
    return LlamaModel(config, weights, **sizes, dtype=plan.dtype, device=plan.device)


def llama_weights(plan: Plan, config: LlamaConfig, report: Report) -> LlamaWeights:
    """Map the weights of a Llama-family model, and quantize them if that is planned."""
    weights = read_weights(plan.folder, config)
    return quantized(weights, plan.method, plan.dtype, plan.double_quant, report) if plan.quantizes else weights


def _modules(plan: Plan, report: Report) -> Model:
    # Only now: transformers takes four seconds to import, and our own families do without.
    from inference_server.models.modules_loader import load_module
    from inference_server.models.modules_model import ModulesModel

    return ModulesModel(
        load_module(plan, report),
        slots=plan.slots,
        max_model_len=plan.max_model_len,
        pages=plan.pages,
        eos_token_ids=eos_token_ids(text_config(plan.config), plan.generation_config),
    )
