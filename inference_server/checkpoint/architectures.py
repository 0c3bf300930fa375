"""Which model types the installed transformers can run as a language model, read from its source without importing it.

The import costs seconds and torch; the answer is one literal in a file. A test compares it with the import.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

TABLE = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"


@cache
def model_types() -> frozenset[str]:
    """Return every `model_type` that transformers' AutoModelForCausalLM knows."""
    spec = find_spec("transformers")
    assert spec is not None, "the server's image is built with transformers"
    assert spec.origin is not None
    source = Path(spec.origin).parent / "models" / "auto" / "modeling_auto.py"
    for statement in ast.parse(source.read_text()).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(args=[table])) if name == TABLE:
                return frozenset(model_type for model_type, _ in ast.literal_eval(table))
    raise AssertionError(f"{source} has no {TABLE}")
