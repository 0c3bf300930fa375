"""How long our server takes to be ready with a model of 1 B, and how long loading NF4 takes, written before or not."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import servers
from benchmarks.measuring import Notebook
from benchmarks.processes import Worker, read_whole
from benchmarks.records import Record, Timing
from cluster.progress import step
from inference_server.cache.quantization import quantize, settings_of


def measure_ready(notebook: Notebook, round_number: int, model: Path) -> None:
    """Measure from the start of the process to 200 from /readyz: bf16, files in the page cache."""
    read_whole(model)

    def attempt() -> Callable[[float], Record]:
        with servers.started(servers.ours("ours-1b", model, "none")) as running:
            seconds = running.ready_seconds
        return lambda others: Timing(what="ready_seconds_1b", round=round_number, seconds=seconds, others_cores=others)

    notebook.measure(f"round {round_number}: start to ready, 1 B", (), attempt)


def measure_nf4_load(notebook: Notebook, round_number: int, model: Path, small: Path) -> None:
    """Measure the engine's load of NF4, quantizing and reading what is quantized, each in a fresh process.

    It loads `small` in the same way before: imports take as long as the faster of the two.
    """
    ways = (("nf4_at_load", model, small), ("nf4_prequantized", prequantized(model), prequantized(small)))
    for what, folder, first in ways:
        read_whole(folder)

        def attempt(what: str = what, folder: Path = folder, first: Path = first) -> Callable[[float], Record]:
            with Worker.started(what, "benchmarks.bare_engine", str(folder), "nf4", str(first)) as worker:
                seconds = worker.ready["load_seconds"]
            return lambda others: Timing(what=what, round=round_number, seconds=seconds, others_cores=others)

        notebook.measure(f"round {round_number}: {what}", (), attempt)


def prequantized(model: Path) -> Path:
    """Return the NF4 form of `model` beside it, as the cache's warm-up writes it, writing it if need be."""
    settings = settings_of("nf4", "bfloat16", True)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    target = model.with_name(f"{model.name}-nf4-{digest[:8]}")
    if not target.exists():
        with step(f"quantizing {model.name}"), tempfile.TemporaryDirectory(dir=model.parent) as scratch:
            written = Path(scratch) / "model"
            quantize(model, written, settings, lambda done, total, unit: None)
            shutil.move(written, target)
    return target
