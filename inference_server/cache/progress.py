"""How far the warm-up is: for the management port, and every ten seconds for the log."""

from __future__ import annotations

import time
from pathlib import Path

import structlog

from inference_server.cache.volume import folder_size
from inference_server.state import Phase, PhaseProgress, ServedModel, ServerState

LOG_EVERY_SECONDS = 10.0

logger = structlog.get_logger(__name__)


class Reporter:
    """Writes the phase and its progress into `state`."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._phase: Phase = "Downloading"
        self._total_bytes = 0
        self._began = self._logged = time.monotonic()
        self._first_bytes: int | None = None

    def model(self, ref: str, revision: str) -> None:
        self._state.model = ServedModel(ref=ref, revision=revision)

    def waiting(self, partial: Path) -> None:
        """Another warm-up is at work on this model: its progress is ours."""
        self._show("Downloading", PhaseProgress(folder_size(partial), 0, "bytes"))

    def unpacking(self) -> None:
        """What follows is no download any more, but comes out of an archive that is here."""
        self._phase = "Unpacking"

    def downloading(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._began, self._first_bytes = time.monotonic(), None
        self.bytes_done(0)

    def bytes_done(self, done: int) -> None:
        """`done` bytes are here; the time left follows from the rate since the download began."""
        if self._first_bytes is None and done > 0:
            self._first_bytes = done
        arrived, seconds = done - (self._first_bytes or 0), time.monotonic() - self._began
        left = max(0, self._total_bytes - done)
        eta_seconds = round(left * seconds / arrived, 1) if arrived > 0 else None
        total = max(done, self._total_bytes)
        self._show(self._phase, PhaseProgress(done, total, "bytes", eta_seconds))

    def quantizing(self) -> None:
        self._state.enter("Quantizing")

    def quantized(self, done: int, total: int, unit: str) -> None:
        self._show("Quantizing", PhaseProgress(done, total, unit))

    def _show(self, phase: Phase, progress: PhaseProgress) -> None:
        self._state.enter(phase, progress)
        if time.monotonic() - self._logged >= LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            logger.info(phase.lower(), done=progress.done, total=progress.total, unit=progress.unit)
