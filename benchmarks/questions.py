"""The child's end of `processes.Worker`: one JSON line out for each JSON line in."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def claim_stdout() -> int:
    """Return a descriptor of stdout for the answers, and send whatever else is printed to stderr."""
    out = os.dup(1)
    os.dup2(2, 1)
    return out


def answer(out: int, ready: dict[str, Any], answers: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Say `ready`, then answer every question on stdin until it closes; a wait for one costs no CPU."""
    os.write(out, json.dumps(ready).encode() + b"\n")
    for line in sys.stdin:
        os.write(out, json.dumps(answers(json.loads(line))).encode() + b"\n")
