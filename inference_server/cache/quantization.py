"""Write the pre-quantized checkpoint, in a child process: it alone imports torch, and its memory goes with it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from inference_server.cache.failures import WarmupFailure
from inference_server.checkpoint.validation import Method, text_config

LEFTOVERS_OF_WEIGHTS = (".safetensors", ".safetensors.index.json", ".incomplete")


def settings_of(method: Method, compute_dtype: str, double_quant: bool) -> dict[str, str]:
    """Return everything that changes the bytes of a quantized checkpoint: the settings, and who writes it."""
    versions = {name: version(name) for name in ("bitsandbytes", "transformers")}
    return {"method": method, "compute_dtype": compute_dtype, "double_quant": str(double_quant), **versions}


def expected_size(config: Mapping[str, Any], raw_bytes: int, method: Method) -> int:
    """Estimate the bytes of the quantized checkpoint: embeddings stay as they are, the rest shrinks.

    0.30 and 0.53 of 16-bit weights, measured; rounded up, with room for the tokenizer.
    """
    text = text_config(config)
    tables = 1 if text.get("tie_word_embeddings", True) else 2
    embeddings = min(raw_bytes, 2 * tables * int(text.get("vocab_size") or 0) * int(text.get("hidden_size") or 0))
    share = 0.6 if method == "int8" else 0.35
    return embeddings + int((raw_bytes - embeddings) * share)


def quantize(
    source: Path, target: Path, settings: Mapping[str, str], progress: Callable[[int, int, str], None]
) -> None:
    """Write the checkpoint of `source` quantized to `target`, with all that a serving pod needs beside the weights.

    Raises:
        WarmupFailure: the model cannot be loaded, or memory ran out.
        OSError: the volume refuses.
    """
    target.mkdir(parents=True)
    command = [sys.executable, "-m", "inference_server.models.quantize", str(source), str(target)]
    command += ["--method", settings["method"], "--compute-dtype", settings["compute_dtype"]]
    command += ["--double-quant"] if settings["double_quant"] == "True" else []
    environment = {name: value for name, value in os.environ.items() if not _is_secret(name)} | {"HF_HUB_OFFLINE": "1"}
    failure: dict[str, str] | None = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        try:
            assert child.stdout is not None
            for line in child.stdout:
                match orjson.loads(line):
                    case {"failure": found}:
                        failure = found
                    case {"done": done, "total": total, "unit": unit}:
                        progress(done, total, unit)
            child.wait()
        finally:
            child.kill()
    if failure is not None and failure["reason"] == "CacheFull":
        raise OSError(errno.ENOSPC, failure["message"])
    if failure is not None:
        raise WarmupFailure(failure["reason"], failure["message"])  # type: ignore[arg-type]
    if child.returncode != 0:
        raise WarmupFailure("WarmupFailed", _why(child.returncode))
    for path in source.iterdir():
        is_weights = path.name.endswith(LEFTOVERS_OF_WEIGHTS) or path.name.startswith(".")
        if not is_weights and not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)


def _is_secret(variable: str) -> bool:
    return "TOKEN" in variable or variable.startswith("AWS_")


def _why(returncode: int) -> str:
    if returncode == -9:
        return "give the warm-up more memory: quantizing was killed (signal 9)"
    return f"see the log of the warm-up: quantizing ended with exit code {returncode}"
