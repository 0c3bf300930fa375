"""Tiny random checkpoints of families that run through transformers' modules, written by transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 2,
}


def write_family(folder: Path, model_type: str, changes: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> Path:
    """Write a model of `model_type` with SIZES and `changes` to `folder`, and return it."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**SIZES, **changes})
    module = AutoModelForCausalLM.from_config(config, dtype=dtype)
    for name, parameter in module.named_parameters():
        # Larger than what training begins with, so that attention has something to choose from.
        torch.nn.init.normal_(parameter.data, mean=float("norm" in name and "bias" not in name), std=0.08)
    module.save_pretrained(folder)
    return folder
