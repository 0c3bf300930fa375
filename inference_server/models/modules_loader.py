"""Load transformers' modules for a family of which we have no forward pass of our own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from inference_server.checkpoint.validation import CheckpointProblem
from inference_server.engine.interface import Progress
from inference_server.models.loader import Plan
from inference_server.models.quantized import import_bitsandbytes


def load_module(plan: Plan, report: Callable[[Progress], None]) -> Any:
    """Return the model that is planned with its weights on the device, quantized on the way if that is planned.

    Raises:
        CheckpointProblem: a weight is missing or has another shape than its config says; transformers would draw it.
    """
    if plan.method != "none":
        import_bitsandbytes()
    with _reporting(report):
        module, info = AutoModelForCausalLM.from_pretrained(
            plan.folder,
            dtype=plan.dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **_placement(plan),
            **(_quantization(plan) if plan.quantizes else {}),
        )
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise CheckpointProblem(
            "ModelInvalid", f"{name!r} has shape {list(found)}, config.json asks for {list(wanted)}"
        )
    for name in sorted(info["missing_keys"]):
        raise CheckpointProblem("ModelInvalid", f"the weights lack {name!r}, which config.json asks for")
    return module.eval().requires_grad_(False)


def _placement(plan: Plan) -> dict[str, Any]:
    # device_map imports accelerate, which a plain model on the CPU does not need.
    return {} if plan.method == "none" and plan.device.type == "cpu" else {"device_map": {"": plan.device}}


def _quantization(plan: Plan) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    if plan.method == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=plan.method,
            bnb_4bit_compute_dtype=plan.dtype,
            bnb_4bit_use_double_quant=plan.double_quant,
        )
    }


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
def _reporting(report: Callable[[Progress], None]) -> Iterator[None]:
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
