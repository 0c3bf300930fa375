"""The digest of a model: one value for all the files that a replica loads, as spec.model.digest names it.

It is the SHA-256 of the lines that `sha256sum` prints for these files, sorted by bytes. So people can compute it:

    sha256sum FILE... | LC_ALL=C sort | sha256sum
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from inference_server.checkpoint.validation import INDEX, METADATA, WEIGHTS, CheckpointProblem, read_weight_map

BLOCK_BYTES = 16 << 20


def digest_of(sha256: Mapping[str, str]) -> str:
    """Return the digest of a set of files, given the sha256 of each by name."""
    lines = sorted(f"{value}  {name}\n" for name, value in sha256.items())
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def check_digest(folder: Path, wanted: str, progress: Callable[[int, int], None]) -> None:
    """Read every file that is loaded from `folder`; `progress` is told the bytes so far and in all.

    Raises:
        CheckpointProblem: together they have another digest than `wanted`, or the index cannot be read.
    """
    files = [folder / name for name in _loaded(folder)]
    total = sum(file.stat().st_size for file in files)
    done = 0
    sha256: dict[str, str] = {}
    for file in files:
        known = hashlib.sha256()
        with file.open("rb") as content:
            while block := content.read(BLOCK_BYTES):
                known.update(block)
                done += len(block)
                progress(done, total)
        sha256[file.name] = known.hexdigest()
    if (found := digest_of(sha256)) != wanted:
        text = f"correct spec.model.digest, or the files: they have {found}, not {wanted}"
        raise CheckpointProblem("DigestMismatch", text)


def _loaded(folder: Path) -> list[str]:
    weights = set(read_weight_map(folder).values()) if (folder / INDEX).is_file() else {WEIGHTS}
    return sorted({name for name in METADATA if (folder / name).is_file()} | weights)
