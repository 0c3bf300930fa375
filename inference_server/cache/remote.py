"""What the warm-up asks of any place that a model comes from; `sources` makes one from the settings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from inference_server.cache.listing import Listing, RemoteFile
from inference_server.cache.progress import Reporter


class Interrupted(Exception):  # noqa: N818 - not an error of ours: the file stays partial
    """The bytes that came are not the bytes that were promised; trying again may help."""


class Remote(Protocol):
    """One model somewhere else."""

    @property
    def name(self) -> str:
        """The model as people name it."""
        ...

    def folder(self, root: Path) -> Path:
        """Return the folder of the cache for all commits of this model."""
        ...

    def commit(self) -> str:
        """Return the name of the model's present content: letters and digits, another one for other content.

        Raises:
            WarmupFailure: there is no such model, or it is not given to us.
        """
        ...

    def opened(self, raw: Path, reporter: Reporter) -> AbstractContextManager[Listing]:
        """Return the files of that commit, to be downloaded as long as the context lasts; `raw` is where they go.

        Raises:
            WarmupFailure, OSError: as `commit`, or the volume refuses.
        """
        ...

    def download(self, file: RemoteFile, target: Path, written: Callable[[int], None]) -> None:
        """Fetch `file` into `target`, going on where an earlier try ended; `written` is told the size so far.

        Raises:
            WarmupFailure: it is refused.
            Interrupted: the file ended early or late, or another one came.
            OSError: the volume refuses.
        """
        ...
