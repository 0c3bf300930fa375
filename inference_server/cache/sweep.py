"""`python -m inference_server sweep`: remove from a cache volume what nobody needs any more.

A warm-up that finds no room does the same before it gives up. Which models are needed the operator says, and only of a
volume that it made for one LLMService; one that a warm-up of another has marked is left alone. Nothing outside of the
two folders of the cache is looked at, and no link is followed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import structlog

from inference_server import termination
from inference_server.cache import volume
from inference_server.cache.failures import WarmupFailure
from inference_server.settings import PREFIX, ConfigurationError, Settings

logger = structlog.get_logger(__name__)

_HASH = re.compile(r"[0-9a-f]{16}")
"""How `volume` names the folder of a source, and that of a quantization."""
_HIDDEN = re.compile(r"\.(?P<name>[^.]+)\.[a-z]+")
"""What an unfinished, packed or refused `name` is called."""


def run(settings: Settings) -> int:
    """Sweep the volume, write the termination message if that fails, and return the exit code."""
    if not settings.cache_keep:
        raise ConfigurationError(f"{PREFIX}CACHE_KEEP: name the folders that are to stay")
    root = settings.cache_dir
    try:
        with volume.writing(root), volume.occupied(root) as occupancy, occupancy.alone() as is_alone:
            _check(root, settings.kept, is_alone=is_alone)
            freed = sweep(root, settings.kept)
    except WarmupFailure as failure:
        logger.error("sweep failed", reason=failure.reason, error=str(failure))  # noqa: TRY400 - the reason is the news
        termination.write_failure(failure.reason, str(failure))
        return failure.exit_code
    logger.info("sweep finished", bytes=freed, room=volume.room(root))
    return 0


def _check(root: Path, keep: Collection[str], *, is_alone: bool) -> None:
    if not is_alone:
        raise WarmupFailure("WarmupFailed", "wait: a warm-up is at work on the volume, or it cannot be written")
    if not any((root / folder).is_dir() for folder in keep):
        text = f"check what is mounted at {root}: nothing of what is to stay is there"
        raise WarmupFailure("VolumeUnusable", text)


def sweep(root: Path, keep: Collection[str], filling: Path | None = None) -> int:
    """Remove the garbage and return its bytes.

    Raises:
        OSError: the volume refuses.
    """
    freed = 0
    for path in garbage(root, keep, filling):
        size = volume.size_of(path)
        _remove(path)
        freed += size
        logger.info("removed", path=path.relative_to(root).as_posix(), bytes=size)
    return freed


def garbage(root: Path, keep: Collection[str], filling: Path | None = None) -> list[Path]:
    """Return what is on the volume and neither in `keep`, nor the download that a quantized one in `keep` was made
    from, nor on its way to `filling`.

    `keep` has folders below `root`, as verdicts name them.
    """
    if volume.is_shared(root):
        return []
    kept = {root / folder for folder in keep}
    found: list[Path] = []
    for source in _entries(root / "models"):
        if _HASH.fullmatch(source.name) and source.is_dir() and not source.is_symlink():
            found += _of_source(source, kept, _commits(kept), filling)
    return found + [path for path in _entries(root / "quantized") if _HASH.fullmatch(_named(path)) and path not in kept]


def _of_source(source: Path, kept: set[Path], commits: set[str] | None, filling: Path | None) -> list[Path]:
    """Return what of one source goes; `commits` are those of all that is kept, None where that cannot be told."""
    content = [path for path in _entries(source) if path.name != volume.LOCK]

    def stays(path: Path) -> bool:
        if path in kept or path.with_name(_named(path)) == filling:
            return True
        return not path.name.startswith(".") and (commits is None or path.name in commits)

    gone = [path for path in content if not stays(path)]
    # With the last model goes the lock: nobody else is on the volume.
    return [source] if gone == content and (filling is None or filling.parent != source) else gone


def _commits(kept: Collection[Path]) -> set[str] | None:
    """Return the commits of what is kept; None where one of the folders does not say."""
    manifests = [volume.read_manifest(folder) for folder in kept if folder.is_dir()]
    known = {manifest.commit for manifest in manifests if manifest is not None}
    return None if None in manifests else known


def _named(path: Path) -> str:
    """Return the name of the model that a path is about."""
    hidden = _HIDDEN.fullmatch(path.name)
    return hidden["name"] if hidden else path.name


def _entries(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else ()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
