"""Stop strings: cut the text before the first one, and never send what may turn out to be the beginning of one."""

from __future__ import annotations

from collections.abc import Sequence


class StopScanner:
    """Scans one sequence's text as it grows.

    Held back is the longest end of the text that could begin a stop string, so a client never sees part of one.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Take more text and return what is certain to be kept; sets `stopped` once a stop string is complete."""
        if not self._stops:
            return text
        candidate = self._held + text
        found = [position for stop in self._stops if (position := candidate.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return candidate[: min(found)]
        keep = len(candidate) - self._begun(candidate)
        self._held = candidate[keep:]
        return candidate[:keep]

    def finish(self) -> str:
        """Return what was held back; the text has ended, so it begins no stop string."""
        held, self._held = self._held, ""
        return held

    def _begun(self, text: str) -> int:
        """Return the length of the longest end of `text` that begins a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
