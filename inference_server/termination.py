"""The termination message: what a finished container tells the operator, through the kubelet, in its pod's status.

Written by `serve` and by `warmup`. The kubelet reads the file once, when the container has ended, so each process
writes one message, as its last act.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

DEFAULT_PATH = Path("/dev/termination-log")
PATH_VARIABLE = "LLMSERVICE_TERMINATION_LOG"
LIMIT_BYTES = 4096
"""The kubelet keeps no more than this of the message; a cut JSON document would be no JSON document."""


def write_failure(reason: str, message: str) -> None:
    """Say why this container ends; `reason` is one of conditions.md, `message` begins with what to do."""
    while len(document := _encode({"failure": {"reason": reason, "message": message}})) > LIMIT_BYTES:
        message = message[: len(message) * 3 // 4]
    _write(document)


def write_verdict(verdict: dict[str, Any]) -> None:
    """Say what the warm-up has put into the cache.

    Raises:
        ValueError: the verdict exceeds `LIMIT_BYTES`.
    """
    document = _encode({"verdict": verdict})
    if len(document) > LIMIT_BYTES:
        raise ValueError(f"a verdict of {len(document)} bytes does not fit into a termination message")
    _write(document)


def _encode(content: dict[str, Any]) -> bytes:
    return orjson.dumps({"schema": 1, **content})


def _write(document: bytes) -> None:
    # Outside a pod the default file does not exist and nobody reads it; a path given by name is always written.
    given = os.environ.get(PATH_VARIABLE)
    path = Path(given) if given else DEFAULT_PATH
    if given or path.is_file():
        path.write_bytes(document)
