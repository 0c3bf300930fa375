"""Which files of a repository are downloaded, and which repositories are refused by their list of names alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from inference_server.cache.failures import WarmupFailure
from inference_server.checkpoint.validation import INDEX, JSON_LIMIT_BYTES, METADATA, PICKLES, WEIGHTS

FILES_LIMIT = 20_000
METADATA_LIMIT_BYTES = 128 << 20
"""The largest tokenizers have 35 MB."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a commit. `sha256` is known for files in large-file storage, `git_blob_id` for all."""

    name: str
    size: int
    git_blob_id: str | None = None
    sha256: str | None = None
    position: int = 0
    """Where it begins in an archive: read in this order, a compressed one is gone through once."""


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]
    passing_bytes: int = 0
    """What lies on the volume only until the files do: an archive."""

    def file(self, name: str) -> RemoteFile | None:
        return next((file for file in self.files if file.name == name), None)


def metadata_files(listing: Listing) -> list[RemoteFile]:
    """Return the small files to download, config first, after judging the repository by its names and sizes.

    Raises:
        WarmupFailure: names that lead elsewhere, weights in a format that may run code, or no model at all.
    """
    if len(listing.files) > FILES_LIMIT:
        raise WarmupFailure("ModelInvalid", f"choose another repository: {listing.repo} has {len(listing.files)} files")
    for file in listing.files:
        check_name(file.name)
    _check_formats(listing)
    found = [entry for name in METADATA if (entry := listing.file(name)) is not None]
    for entry in found:
        limit = JSON_LIMIT_BYTES.get(entry.name, METADATA_LIMIT_BYTES)
        if entry.size > limit:
            text = f"{entry.name} of {listing.repo} has {entry.size} bytes, more than {limit}: not a real one"
            raise WarmupFailure("ModelInvalid", text)
    return found


def weight_files(listing: Listing, shards: Sequence[str] | None) -> list[RemoteFile]:
    """Return the weights to download: the `shards` that the index names, or the one file where there is no index.

    Raises:
        WarmupFailure: the repository lacks a shard.
    """
    names = [WEIGHTS] if shards is None else sorted(set(shards))
    lost = [name for name in names if listing.file(name) is None]
    if lost:
        text = f"ask the publisher to complete {listing.repo}: {lost[0]}, which {INDEX} names, is not there"
        raise WarmupFailure("ModelInvalid", text)
    return [file for name in names if (file := listing.file(name)) is not None]


def check_name(name: str) -> None:
    """Refuse a name that leads out of its folder or that a terminal would not show as it is."""
    parts = name.split("/")
    if not name or name.startswith("/") or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise WarmupFailure("UnsafeFiles", f"choose another repository: the file name {name!r} leads out of its folder")
    if any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in name):
        raise WarmupFailure(
            "UnsafeFiles", f"choose another repository: the file name {name!r} holds control characters"
        )


def _check_formats(listing: Listing) -> None:
    names = [file.name for file in listing.files]
    if listing.file(WEIGHTS) or listing.file(INDEX):
        for needed in ("config.json", "tokenizer.json"):
            if listing.file(needed) is None:
                raise WarmupFailure("ModelInvalid", f"choose another repository: {listing.repo} has no {needed}")
        return
    if "adapter_config.json" in names:
        text = f"name a complete model: {listing.repo} is an adapter, to be merged into its base model"
        raise WarmupFailure("ModelUnsupported", text)
    if pickles := [name for name in names if name.endswith(PICKLES)]:
        text = f"convert {listing.repo} to safetensors: {pickles[0]} may run code, nothing was downloaded"
        raise WarmupFailure("UnsafeFiles", text)
    if any(name.endswith(".gguf") for name in names):
        raise WarmupFailure("ModelUnsupported", f"choose a safetensors repository: {listing.repo} has only GGUF files")
    raise WarmupFailure("ModelInvalid", f"choose another repository: {listing.repo} has no {WEIGHTS}")
