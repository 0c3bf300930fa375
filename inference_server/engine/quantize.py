"""`python -m inference_server.engine.quantize SOURCE TARGET`: write a quantized checkpoint, for the warm-up.

Each line of stdout is a JSON object: progress, or the failure that ends it. A process of its own, because the warm-up
itself never imports torch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson

from inference_server.checkpoint.validation import CheckpointProblem
from inference_server.engine.interface import LoadFailure, Progress
from inference_server.engine.transformers_engine import prepare_torch, uncollected

FAILED = 65


def main() -> int:
    """Quantize; the exit code is 0 when TARGET holds a whole checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m inference_server.engine.quantize", description=__doc__)
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
    from inference_server.engine.loader import LoadOptions, load

    options = LoadOptions(arguments.method, arguments.compute_dtype, arguments.double_quant, device="cpu")
    try:
        model = load(arguments.source, options, _report)
    except CheckpointProblem as problem:
        _say({"failure": {"reason": problem.reason, "message": str(problem)}})
        return FAILED
    except LoadFailure as failure:
        _say({"failure": {"reason": "WarmupFailed", "message": str(failure)}})
        return FAILED
    model.module.save_pretrained(arguments.target)
    return 0


def _report(progress: Progress) -> None:
    _say({"done": progress.done, "total": progress.total, "unit": progress.unit})


def _say(content: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(content) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
