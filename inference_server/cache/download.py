"""Bring the files of one commit into a folder: resumed, verified, checked as a checkpoint, free of code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from inference_server.cache.failures import WarmupFailure
from inference_server.cache.listing import Listing, RemoteFile
from inference_server.cache.remote import Interrupted, Remote
from inference_server.checkpoint.validation import read_json

CODE_KEYS = ("auto_map", "custom_pipelines")
"""What makes transformers look for Python files in a repository."""


def fetch(
    remote: Remote, listing: Listing, files: Iterable[RemoteFile], folder: Path, progress: Callable[[int], None]
) -> dict[str, str]:
    """Download `files` into `folder` and return the sha256 of each; `progress` is told the bytes so far.

    A file that is whole keeps its name; one that is not ends in .incomplete and is taken up again.

    Raises:
        WarmupFailure: the other side refuses, or a file came wrong twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sha256: dict[str, str] = {}
    before = 0
    for file in sorted(files, key=lambda file: file.position):
        told = before
        sha256[file.name] = _fetch_one(remote, listing, file, folder, lambda size, told=told: progress(told + size))  # type: ignore[misc]
        before += file.size
        progress(before)
    return sha256


def remove_code(folder: Path) -> None:
    """Take the references to repository code out of the configs: nothing may ever look for it."""
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        content = read_json(path)
        if any(content.pop(key, None) is not None for key in CODE_KEYS):
            path.write_text(json.dumps(content, indent=2) + "\n")


def partial_path(folder: Path, name: str) -> Path:
    """Return where a file grows until it is whole."""
    return folder / f"{name}.incomplete"


def _fetch_one(
    remote: Remote, listing: Listing, file: RemoteFile, folder: Path, progress: Callable[[int], None]
) -> str:
    target = folder / file.name
    if target.is_file() and (verified := _verified(file, target)):
        return verified
    partial = partial_path(folder, file.name)
    for _ in range(2):
        trouble = "its bytes are not those on record"
        try:
            remote.download(file, partial, progress)
            if verified := _verified(file, partial):
                partial.rename(target)
                return verified
        except Interrupted as interrupted:
            trouble = str(interrupted)
        # What came is wrong and nobody knows where: once more from the beginning.
        partial.unlink(missing_ok=True)
    text = f"try again, or ask who runs the server or the proxy before it: {file.name} of {listing.repo}: {trouble}"
    raise WarmupFailure("DigestMismatch", text)


def _verified(file: RemoteFile, path: Path) -> str | None:
    """Return the sha256 of a file that is what the other side has on record, None when it is not."""
    if path.stat().st_size != file.size:
        return None
    with path.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    if file.sha256 is not None:
        return sha256 if sha256 == file.sha256 else None
    if file.git_blob_id is None:
        return sha256
    # Small files have no sha256 on record, but the id that git gives their content.
    blob = hashlib.sha1(b"blob %d\0" % file.size + path.read_bytes(), usedforsecurity=False)
    return sha256 if file.git_blob_id == blob.hexdigest() else None
