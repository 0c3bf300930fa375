"""Read and check the header of a safetensors file without loading a tensor, and without trusting a single number in it.

The format: eight bytes of length, a JSON header, the data. https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

HEADER_LIMIT_BYTES = 100_000_000
"""The limit of the safetensors library itself."""

ITEM_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
}
LFS_POINTER = b"version https://git-lfs"


class InvalidSafetensors(Exception):  # noqa: N818 - a statement about a file, raised as one
    """The file is not a safetensors file that can be read safely; the text says why."""


@dataclass(frozen=True)
class Tensor:
    """One entry of the header; `begin` and `end` are offsets into the data, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, Tensor]:
    """Return the tensors of `path` by name.

    Raises:
        InvalidSafetensors: the header is no header, or tensors overlap, leave gaps or reach beyond the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start + file.read(len(LFS_POINTER) - 8) == LFS_POINTER:
            raise InvalidSafetensors("is a Git LFS pointer, not the weights: clone the repository with git-lfs")
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > size - 8:
            raise InvalidSafetensors(f"header of {length} bytes in a file of {size}: cut off, or not safetensors")
        if length > HEADER_LIMIT_BYTES:
            raise InvalidSafetensors(f"header of {length} bytes is above the limit of {HEADER_LIMIT_BYTES}")
        file.seek(8)
        encoded = file.read(length)
    try:
        header = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise InvalidSafetensors(f"header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise InvalidSafetensors("header is not a JSON object")
    tensors = {name: _tensor(name, entry) for name, entry in header.items() if name != "__metadata__"}
    _check_layout(tensors, data_bytes=size - 8 - length)
    return tensors


def _tensor(name: str, entry: Any) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError):
        raise InvalidSafetensors(f"tensor {name!r} has no dtype, shape and data_offsets") from None
    if dtype not in ITEM_BITS or not all(isinstance(number, int) and 0 <= number < 1 << 63 for number in numbers):
        raise InvalidSafetensors(f"tensor {name!r} has an unknown dtype or a size that is no size")
    if prod(shape) * ITEM_BITS[dtype] != (end - begin) * 8:
        raise InvalidSafetensors(f"tensor {name!r} of shape {shape} does not fill its {end - begin} bytes")
    return Tensor(dtype, tuple(shape), begin, end)


def _check_layout(tensors: dict[str, Tensor], data_bytes: int) -> None:
    """The data must be covered exactly: the format allows neither gaps nor overlaps."""
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != position:
            raise InvalidSafetensors(f"tensor {name!r} begins at {tensor.begin}, expected {position}")
        position = tensor.end
    if position != data_bytes:
        raise InvalidSafetensors(f"holds {data_bytes} bytes of tensors, its header describes {position}")
