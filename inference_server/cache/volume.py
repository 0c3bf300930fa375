"""The cache volume: where things lie, who may write, what is complete, and how much room is left.

Everything is written into a folder whose name starts with a dot and renamed when it is whole, so that a reader and a
restarted warm-up see either a complete model or none.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inference_server.cache.failures import WarmupFailure

MANIFEST = ".llmservice.json"
LOCK = ".lock"
"""In the folder of a source: held by the one warm-up that writes there."""
OCCUPIED = ".occupied"
"""In the root: held by all who rely on what is there, or by the one who removes some of it."""
SHARED = ".shared"
"""In the root: that other LLMServices than its own have filled the volume, so that nobody knows what they need."""
LOCK_POLL_SECONDS = 0.5
FULL = (errno.ENOSPC, errno.EDQUOT)
OVERHEAD = 0.06
"""Of a volume's size, what a file system keeps for itself: 2 to 5 % with ext4 and XFS, and a little to spare."""


@dataclass(frozen=True)
class Manifest:
    """What a complete folder holds: `digest` is that of the source commit, `sizes` are those of the files here."""

    commit: str
    digest: str
    quantization: str
    sizes: Mapping[str, int]

    @property
    def size(self) -> int:
        return sum(self.sizes.values())


def source_folder(root: Path, endpoint: str, repo: str) -> Path:
    """Return the folder of all commits of one repository."""
    source = hashlib.sha256(f"{endpoint}\n{repo}".encode()).hexdigest()[:16]
    return root / "models" / source


def quantized_folder(root: Path, source: Path, commit: str, settings: Mapping[str, str]) -> Path:
    """Return the folder of one quantization of one commit; `settings` hold all that changes the bytes."""
    key = json.dumps([source.name, commit, sorted(settings.items())])
    return root / "quantized" / hashlib.sha256(key.encode()).hexdigest()[:16]


def partial_folder(folder: Path) -> Path:
    """Return where `folder` is built; it stays after a crash, to be taken up again."""
    return folder.with_name(f".{folder.name}.partial")


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a complete folder: None when there is none, or when a file is gone or has another size."""
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text()))
        complete = all((folder / name).stat().st_size == size for name, size in manifest.sizes.items())
    except (OSError, ValueError, TypeError):
        return None
    return manifest if complete else None


def publish(folder: Path, commit: str, digest: str, quantization: str) -> Manifest:
    """Make the partial folder of `folder` the real one, readable for any user: serving pods may run as another."""
    partial = partial_folder(folder)
    files = [path for path in partial.rglob("*") if path.is_file()]
    sizes = {path.relative_to(partial).as_posix(): path.stat().st_size for path in sorted(files)}
    manifest = Manifest(commit, digest, quantization, sizes)
    (partial / MANIFEST).write_text(json.dumps(asdict(manifest)))
    for path in (partial, *partial.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    # A damaged folder of that name is in the way; pods that read it keep their open files.
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return manifest


@contextmanager
def locked(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the one right to write below `folder`, calling `waiting` now and then until it is ours.

    An flock: it goes with its process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        while not _try_lock(file.fileno()):
            waiting()
            time.sleep(LOCK_POLL_SECONDS)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True)
class Occupancy:
    """A place among those who rely on what is on a volume."""

    descriptor: int | None
    """None on a volume that is not ours to write, where nobody removes anything either."""

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Yield whether nobody else is there, and if so keep others away as long as the body lasts."""
        if self.descriptor is None:
            yield False
            return
        try:
            yield _try_lock(self.descriptor)
        finally:
            fcntl.flock(self.descriptor, fcntl.LOCK_SH)


@contextmanager
def occupied(root: Path) -> Iterator[Occupancy]:
    """Rely on what is on the volume: wait for who is removing some of it, and let nobody begin."""
    try:
        descriptor = os.open(root / OCCUPIED, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError:
        yield Occupancy(None)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield Occupancy(descriptor)
    finally:
        os.close(descriptor)


def mark_shared(root: Path) -> None:
    """Say for good that not all that is needed of the volume is known to one LLMService."""
    try:
        (root / SHARED).touch()
    except OSError as error:
        # Where we may not write, nobody removes anything either.
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise


def is_shared(root: Path) -> bool:
    """Whether the volume is marked as shared."""
    return (root / SHARED).exists()


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Translate what a volume can answer to a write below `root`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise WarmupFailure("CacheFull", f"enlarge the cache: it ran full, {room(root)}") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO):
            text = f"make the cache volume writable: {error.filename or 'it'}: {error.strerror}"
            raise WarmupFailure("VolumeUnusable", text) from error
        raise


@contextmanager
def filling(root: Path, left: Callable[[], int], parts: str) -> Iterator[None]:
    """Say of a volume that runs full what would have been enough; `left` returns the bytes that are still to come."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise _full(root, left(), parts) from error
        raise


def check_space(root: Path, needed_bytes: int, parts: str) -> None:
    """Refuse before the first byte what would not fit to the last one.

    Raises:
        WarmupFailure: `needed_bytes` more are needed than the volume has left.
    """
    if needed_bytes > shutil.disk_usage(root).free:
        raise _full(root, needed_bytes, parts)


def _full(root: Path, needed_bytes: int, parts: str) -> WarmupFailure:
    usage = shutil.disk_usage(root)
    enough = (usage.total - usage.free + needed_bytes) * (1 + OVERHEAD)
    text = f"enlarge the cache to {math.ceil(enough / 2**30)}Gi: {parts} needs {_gib(needed_bytes)} more, {room(root)}"
    return WarmupFailure("CacheFull", text)


def room(root: Path) -> str:
    """Say how full the volume is."""
    usage = shutil.disk_usage(root)
    return f"{_gib(usage.free)} of {_gib(usage.total)} are free"


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; a link has none."""
    if path.is_symlink():
        return 0
    return folder_size(path) if path.is_dir() else path.stat().st_size


def folder_size(folder: Path) -> int:
    """Return the bytes of all files below `folder`, 0 when there is none."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with _vanished_ignored():
                total += (Path(parent) / name).stat().st_size
    return total


@contextmanager
def _vanished_ignored() -> Iterator[Any]:
    # Another warm-up may be renaming the folder we look at.
    try:
        yield
    except FileNotFoundError:
        return


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
