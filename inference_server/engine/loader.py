"""Load a checkpoint with transformers' modules: from a folder, offline, never running a line of what it holds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from inference_server.checkpoint.validation import (
    Method,
    Wanted,
    check_weights,
    effective_quantization,
    own_quantization,
    read_config,
    text_config,
)
from inference_server.engine.interface import LoadFailure, Progress

ComputeDtype = Literal["auto", "bfloat16", "float16", "float32"]
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
DEFAULT_CONTEXT = 2048
"""For the few families whose config names no context length."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for forward passes. `eos_token_ids` end a sequence; `context` is what its config says."""

    module: Any
    quantization: Method
    device: torch.device
    eos_token_ids: frozenset[int]
    context: int


@dataclass(frozen=True)
class LoadOptions:
    """How to load; the words are the settings'."""

    quantization: Wanted = "auto"
    compute_dtype: ComputeDtype = "auto"
    double_quant: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"


def load(folder: Path, options: LoadOptions, report: Callable[[Progress], None]) -> LoadedModel:
    """Check the checkpoint in `folder` and load it.

    Raises:
        CheckpointProblem: the checkpoint cannot be served.
        LoadFailure: this machine cannot serve it.
    """
    config = read_config(folder)
    method = effective_quantization(config, options.quantization)
    check_weights(folder)
    device = pick_device(options.device)
    dtype = pick_dtype(config, options.compute_dtype, method, device)
    if method != "none":
        _import_bitsandbytes()
    with _reporting(report):
        module = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
            **_placement(method, device),
            **_quantize_at_load(config, method, dtype, options.double_quant),
        )
    module.eval().requires_grad_(False)
    return LoadedModel(
        module=module,
        quantization=method,
        device=device,
        eos_token_ids=_eos_token_ids(module),
        context=int(text_config(config).get("max_position_embeddings") or DEFAULT_CONTEXT),
    )


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


def pick_dtype(config: dict[str, Any], wanted: ComputeDtype, method: Method, device: torch.device) -> torch.dtype:
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


def _import_bitsandbytes() -> None:
    """Import bitsandbytes without torch's compiler.

    It decorates four fallback functions with torch.compile, which imports the compiler (2.7 s of CPU time at each start
    of a pod) and would, at the first call, look for a C++ compiler that the image does not have.
    """

    def undecorated(function: Any = None, **_: Any) -> Any:
        return function or (lambda decorated: decorated)

    with patch.object(torch, "compile", undecorated):
        import bitsandbytes  # noqa: F401 - for the operators that it registers


def _placement(method: Method, device: torch.device) -> dict[str, Any]:
    # device_map imports accelerate, which a plain model on the CPU does not need.
    return {} if method == "none" and device.type == "cpu" else {"device_map": {"": device}}


def _quantize_at_load(config: dict[str, Any], method: Method, dtype: torch.dtype, double_quant: bool) -> dict[str, Any]:
    if method == "none" or own_quantization(config) != "none":
        return {}
    from transformers import BitsAndBytesConfig

    if method == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=method,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_use_double_quant=double_quant,
        )
    }


def _eos_token_ids(module: Any) -> frozenset[int]:
    eos = module.generation_config.eos_token_id
    return frozenset(eos if isinstance(eos, list) else [] if eos is None else [eos])


class _Bar:
    """What transformers asks of a progress bar, as a report."""

    def __init__(self, items: Any, total: int, report: Callable[[Progress], None]) -> None:
        self._items, self._total, self._report = items, total, report

    def __iter__(self) -> Any:
        for done, item in enumerate(self._items):
            self._report(Progress(done=done, total=self._total, unit="tensors"))
            yield item
        self._report(Progress(done=self._total, total=self._total, unit="tensors"))


@contextmanager
def _reporting(report: Callable[[Progress], None]) -> Any:
    """Turn transformers' progress bar for loading weights into reports."""

    def hook(factory: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        items = arguments[0] if arguments else keywords.get("iterable")
        if keywords.get("desc") != "Loading weights" or items is None:
            return factory(*arguments, **keywords)
        return _Bar(items, len(items), report)

    transformers_logging.disable_progress_bar()
    # One line for each int8 layer and step, about a cast that is how the kernel works.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    previous = transformers_logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(previous)
