"""What this process is doing, in the words of the management port; written by its owner, read by probes and operator.

`serve` and `warmup` each hold one `ServerState`. The document of `GET /internal/v1/state` is versioned: fields are
only ever added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Phase = Literal[
    "Starting", "Downloading", "Unpacking", "Quantizing", "Loading", "Verifying", "Ready", "Draining", "Failed"
]


@dataclass(frozen=True)
class Failure:
    """Why nothing will work any more; `reason` is one of conditions.md."""

    reason: str
    message: str


@dataclass(frozen=True)
class PhaseProgress:
    """How far the current phase is, in `unit` ("bytes", "tensors", …)."""

    done: int
    total: int
    unit: str
    eta_seconds: float | None = None


@dataclass(frozen=True)
class ServedModel:
    """Which model this process works on; None where it is not known yet."""

    ref: str | None = None
    revision: str | None = None
    digest: str | None = None
    quantization: str | None = None


@dataclass(frozen=True)
class Load:
    """How busy the engine is; `tokens_per_second` is the output rate of the last ten seconds.

    `waiting_tokens` are those of prompts and of what may be generated; `kv_capacity_tokens` is in tokens too.
    """

    running: int = 0
    waiting: int = 0
    slots: int = 0
    tokens_per_second: float = 0.0
    waiting_tokens: int = 0
    kv_capacity_tokens: int = 0


@dataclass
class ServerState:
    """The mutable facts behind the management port. `load` is asked on every read; a warm-up leaves it at zero."""

    phase: Phase = "Starting"
    progress: PhaseProgress | None = None
    model: ServedModel = field(default_factory=ServedModel)
    failure: Failure | None = None
    load: Callable[[], Load] = Load

    def enter(self, phase: Phase, progress: PhaseProgress | None = None) -> None:
        """Go to `phase`; a failed process stays failed, because what fails must not look ready again."""
        if self.phase != "Failed":
            self.phase, self.progress = phase, progress

    def fail(self, reason: str, message: str) -> None:
        """Record the first failure; those that follow from it are not news."""
        if self.phase != "Failed":
            self.phase, self.failure = "Failed", Failure(reason, message)

    def unready_because(self) -> str | None:
        """Return why requests cannot be answered, or None when they can."""
        if self.phase == "Ready":
            return None
        if self.failure is not None:
            return f"{self.failure.reason}: {self.failure.message}"
        return f"phase is {self.phase}"

    def is_live(self) -> bool:
        """Whether the kubelet should leave the container alone: everything but a failure is worth waiting for."""
        return self.phase != "Failed"

    def document(self) -> dict[str, Any]:
        """Return the body of `GET /internal/v1/state`."""
        return {
            "schema": 1,
            "phase": self.phase,
            "progress": asdict(self.progress) if self.progress else None,
            "model": asdict(self.model),
            "load": asdict(self.load()),
            "failure": asdict(self.failure) if self.failure else None,
        }
