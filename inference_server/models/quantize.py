"""`python -m inference_server.models.quantize SOURCE TARGET`: write a quantized checkpoint, for the warm-up.

Each line of stdout is a JSON object: progress, or the failure that ends it. A process of its own, because the warm-up
itself never imports torch. What it writes is transformers' format for bitsandbytes, whoever writes it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from safetensors import SafetensorError

from inference_server.cache.volume import FULL
from inference_server.checkpoint.validation import WEIGHTS, CheckpointProblem, Method
from inference_server.engine.interface import EngineConfig, LoadFailure, Progress
from inference_server.engine.torch_setup import prepare_torch, uncollected

if TYPE_CHECKING:
    from inference_server.models.llama.config import LlamaConfig
    from inference_server.models.loader import Plan

FAILED = 65


def main() -> int:
    """Quantize; the exit code is 0 when TARGET holds a whole checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m inference_server.models.quantize", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--method", choices=("nf4", "fp4", "int8"), required=True)
    parser.add_argument("--compute-dtype", choices=("auto", "bfloat16", "float16", "float32"), default="auto")
    parser.add_argument("--double-quant", action="store_true")
    arguments = parser.parse_args()
    with uncollected():
        return _quantize(arguments)


def _quantize(arguments: argparse.Namespace) -> int:
    prepare_torch()
    # Only now: the import reads the variables that prepare_torch has set.
    from inference_server.models.loader import planned

    config = EngineConfig(
        model_path=str(arguments.source),
        quantization=arguments.method,
        compute_dtype=arguments.compute_dtype,
        double_quant=arguments.double_quant,
        device="cpu",
    )
    try:
        write_quantized(planned(config), arguments.target)
    except CheckpointProblem as problem:
        _say({"failure": {"reason": problem.reason, "message": str(problem)}})
        return FAILED
    except LoadFailure as failure:
        _say({"failure": {"reason": "WarmupFailed", "message": str(failure)}})
        return FAILED
    except (OSError, SafetensorError) as error:
        if not _is_full(error):
            raise
        _say({"failure": {"reason": "CacheFull", "message": "the volume ran full"}})
        return FAILED
    return 0


def write_quantized(plan: Plan, target: Path) -> None:
    """Write the checkpoint of `plan`, which quantizes it, to the folder `target`.

    Raises:
        CheckpointProblem: it cannot be read.
    """
    if plan.llama is not None:
        _write_llama(plan, plan.llama, target)
        return
    from inference_server.models.modules_loader import load_module

    load_module(plan, _report).save_pretrained(target)


def _write_llama(plan: Plan, config: LlamaConfig, target: Path) -> None:
    from safetensors.torch import save_file

    from inference_server.models.llama.weights import stored_quantized

    tensors = stored_quantized(plan.folder, config, plan.method, plan.dtype, plan.double_quant, _report)
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
    dtype = str(plan.dtype).removeprefix("torch.")
    content = {
        **plan.config,
        "dtype": dtype,
        "quantization_config": quantization_config(plan.method, dtype, plan.double_quant),
    }
    (target / "config.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _is_full(error: Exception) -> bool:
    """Whether the volume ran full; safetensors keeps the system's answer in its text alone."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return any(f"os error {code})" in str(error) for code in FULL)


def quantization_config(method: Method, dtype: str, double_quant: bool) -> dict[str, Any]:
    """Return what config.json says about weights quantized by bitsandbytes."""
    if method == "int8":
        return {"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False}
    return {
        "quant_method": "bitsandbytes",
        "load_in_8bit": False,
        "load_in_4bit": True,
        "bnb_4bit_quant_type": method,
        "bnb_4bit_compute_dtype": dtype,
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_use_double_quant": double_quant,
    }


def _report(progress: Progress) -> None:
    _say({"done": progress.done, "total": progress.total, "unit": progress.unit})


def _say(content: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(content) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
