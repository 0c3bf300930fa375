"""The models of a folder as the hub shows them: revisions, commits, and files with their digests.

`<root>/<owner>/<name>/…` holds the files of the revision `main`, or one folder for each revision. A commit is a digest
of the names and contents, so an edited folder is a new commit and the same folder is the same commit everywhere.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LFS_SUFFIXES = {".safetensors", ".bin", ".gguf", ".pt", ".pth", ".model", ".tar", ".gz", ".zip"}
LFS_FROM_BYTES = 10 * 1024 * 1024

_digests: dict[tuple[str, str, int, int], str] = {}


@dataclass(frozen=True)
class HubFile:
    """One file. `sha256` is set for files in large-file storage only; the others go by their git blob id."""

    name: str
    path: Path
    size: int
    blob_id: str
    sha256: str | None

    @property
    def etag(self) -> str:
        return self.sha256 or self.blob_id


@dataclass(frozen=True)
class Snapshot:
    """The files of one revision."""

    repo: str
    commit: str
    files: tuple[HubFile, ...]

    def file(self, name: str) -> HubFile | None:
        return next((file for file in self.files if file.name == name), None)


def repositories(root: Path) -> Iterator[str]:
    """Yield every `owner/name` below `root`."""
    for owner in sorted(root.iterdir()):
        if owner.is_dir() and not owner.name.startswith("."):
            yield from (f"{owner.name}/{model.name}" for model in sorted(owner.iterdir()) if _is_model(model))


def snapshot(root: Path, repo: str, revision: str) -> Snapshot | None:
    """Return the files of `repo` at a branch or commit, None when there is no such revision.

    Raises:
        LookupError: there is no such repository.
    """
    folder = root / repo
    if repo.count("/") != 1 or ".." in repo or not _is_model(folder):
        raise LookupError(repo)
    for name, content in _revisions(folder).items():
        found = _read(repo, content)
        if revision in (name, found.commit):
            return found
    return None


def _is_model(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".")


def _revisions(folder: Path) -> dict[str, Path]:
    if any(entry.is_file() for entry in folder.iterdir()):
        return {"main": folder}
    return {entry.name: entry for entry in sorted(folder.iterdir()) if entry.is_dir()}


def _read(repo: str, folder: Path) -> Snapshot:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = tuple(_hub_file(path, path.relative_to(folder).as_posix()) for path in paths)
    commit = hashlib.sha1()
    for file in files:
        commit.update(f"{file.name}\0{file.size}\0{file.etag}\n".encode())
    return Snapshot(repo, commit.hexdigest(), files)


def _hub_file(path: Path, name: str) -> HubFile:
    size = path.stat().st_size
    if path.suffix in LFS_SUFFIXES or size > LFS_FROM_BYTES:
        sha256 = _digest(path, "sha256")
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return HubFile(name, path, size, _git_blob_id(pointer), sha256)
    return HubFile(name, path, size, _git_blob_id(path.read_bytes()), None)


def _git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _digest(path: Path, algorithm: str) -> str:
    """Digest a large file once for as long as it is not touched."""
    status = path.stat()
    key = (str(path), algorithm, status.st_size, status.st_mtime_ns)
    if key not in _digests:
        with path.open("rb") as file:
            _digests[key] = hashlib.file_digest(file, algorithm).hexdigest()
    return _digests[key]
