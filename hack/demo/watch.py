"""Tell what an LLMService is doing, as a person likes to read it."""

from __future__ import annotations

import time
from collections.abc import Callable

from demo.kubectl import DeadlineError, Kubectl, Manifest, condition

# A silent minute looks like a hang: say something at least this often.
HEARTBEAT_SECONDS = 15


def summary(llmservice: Manifest | None) -> str:
    """Return one line on the state of an LLMService: phase, progress, and what holds it back."""
    status = (llmservice or {}).get("status") or {}
    ready = condition(llmservice, "Ready")
    parts = [status.get("phase") or "Pending"]
    if status.get("progress"):
        parts.append(f"({status['progress']})")
    if ready.get("status") != "True" and ready.get("message"):
        parts.append(f"- {ready['reason']}: {ready['message']}")
    return " ".join(parts)


def until_ready(kubectl: Kubectl, name: str, *, timeout_seconds: float, say: Callable[[str], None] = print) -> float:
    """Print each change of the LLMService until Ready is true for its generation; returns the seconds it took.

    Raises:
        DeadlineError: it was not ready in time; the message holds its last summary.
    """
    started = time.monotonic()
    last_line, last_said = "", 0.0
    while True:
        elapsed = time.monotonic() - started
        llmservice = kubectl.get("llmservice", name)
        line = summary(llmservice)
        if line != last_line or elapsed - last_said >= HEARTBEAT_SECONDS:
            say(f"  {elapsed:5.0f} s  {line}")
            last_line, last_said = line, elapsed
        if is_ready(llmservice):
            return elapsed
        if elapsed > timeout_seconds:
            raise DeadlineError(f"{name} is not ready after {timeout_seconds:.0f} s: {line}")
        time.sleep(0.5)


def is_ready(llmservice: Manifest | None) -> bool:
    """Is Ready true for the generation that the object has now?"""
    ready = condition(llmservice, "Ready")
    return bool(
        llmservice
        and ready.get("status") == "True"
        and ready.get("observedGeneration") == llmservice["metadata"]["generation"]
    )
