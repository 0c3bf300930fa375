"""A file that a download appends to, and that outlives the process that began it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class GrowingFile(io.BufferedWriter):
    """A file opened for appending that tells its size after every write."""

    def __init__(self, path: Path, written: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._written = written

    def write(self, data: Any) -> int:
        count = super().write(data)
        self._written(self.tell())
        return count

    def restart(self) -> None:
        """Throw away what an earlier try left."""
        self.seek(0)
        self.truncate()

    def sync(self) -> None:
        """Bring everything to the disk: a file that is renamed must not turn out empty after a crash of the node."""
        self.flush()
        os.fsync(self.fileno())
