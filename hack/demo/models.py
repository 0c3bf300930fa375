"""Lay out the models that the hub's image holds: `python -m demo.models [tiny] [gemma]`.

They lie in build/hub-models, which git ignores and the hub's Dockerfile copies. The tiny ones are always there, because
the end-to-end tests want them; what is already laid out stays, so that an unchanged image is not built again.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from demo import gemma
from demo.install import GATED_REPO, REPOSITORY, TINY_REPO
from tests.support.models import write_checkpoint

HUB_MODELS = REPOSITORY / "build" / "hub-models"
ARCHIVE = "llmservice/archives/tiny-llama.tar"
"""Below HUB_MODELS: the first of the tiny models in one file, as any web server would offer it."""


def main() -> int:
    """Lay out the tiny models, and Gemma when it is asked for."""
    for seed, repo in enumerate((TINY_REPO, GATED_REPO)):
        _lay_out(HUB_MODELS / repo, partial(write_checkpoint, seed=seed))
    _lay_out((HUB_MODELS / ARCHIVE).parent, _archive)
    if "gemma" in sys.argv[1:]:
        _lay_out(HUB_MODELS / gemma.MODEL, partial(_copy, gemma.prepare(gemma.models_folder())))
    return 0


def _lay_out(target: Path, write: Callable[[Path], Any]) -> None:
    """Have `write` make the folder `target`, whole or not at all; one that is there stays."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        model = Path(scratch) / "model"
        write(model)
        model.rename(target)


def _archive(folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(folder / Path(ARCHIVE).name, "w") as tar:
        tar.add(HUB_MODELS / TINY_REPO, "tiny-llama", filter=_impersonal)


def _impersonal(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return an entry with the same bytes everywhere, or every checkout would have an image of its own."""
    return entry.replace(mtime=0, uid=0, gid=0, uname="", gname="", deep=False)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder, by hard links where the file system allows."""
    try:
        shutil.copytree(source, target, copy_function=os.link)
    except (OSError, shutil.Error):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)


if __name__ == "__main__":
    sys.exit(main())
