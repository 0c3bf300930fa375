"""Lay out the models that the hub's image holds: `python -m demo.models [tiny] [gemma]`.

They lie in build/hub-models, which git ignores and the hub's Dockerfile copies. The tiny ones are always there, because
the end-to-end tests want them; what is already laid out stays, so that an unchanged image is not built again.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from demo import gemma
from demo.install import GATED_REPO, REPOSITORY, TINY_REPO
from tests.support.models import write_checkpoint

HUB_MODELS = REPOSITORY / "build" / "hub-models"


def main() -> int:
    """Lay out the tiny models, and Gemma when it is asked for."""
    for seed, repo in enumerate((TINY_REPO, GATED_REPO)):
        _lay_out_tiny(HUB_MODELS / repo, seed)
    if "gemma" in sys.argv[1:]:
        _lay_out(gemma.prepare(gemma.models_folder()), HUB_MODELS / gemma.MODEL)
    return 0


def _lay_out_tiny(target: Path, seed: int) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            write_checkpoint(Path(scratch) / "model", seed=seed).rename(target)
            for file in target.iterdir():
                file.chmod(0o644)


def _lay_out(source: Path, target: Path) -> None:
    """Make `target` a copy of `source`, by hard links where the file system allows."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        copied = Path(scratch) / "model"
        try:
            shutil.copytree(source, copied, copy_function=os.link)
        except (OSError, shutil.Error):
            shutil.rmtree(copied, ignore_errors=True)
            shutil.copytree(source, copied)
        copied.rename(target)


if __name__ == "__main__":
    sys.exit(main())
