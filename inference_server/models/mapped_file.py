"""The tensors of a checkpoint's safetensors files, memory-mapped: nothing is read before somebody looks at it."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from inference_server.checkpoint import safetensors_header, validation
from inference_server.checkpoint.validation import CheckpointProblem

DTYPES: Mapping[str, torch.dtype] = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "U8": torch.uint8,
    "I8": torch.int8,
}
FLOATS = ("BF16", "F16", "F32")


class MappedCheckpoint:
    """Gives the tensors of `folder` by name: first their headers, checked, then views on the mapped files.

    The views are private and never written to, so every process on a node shares one copy in its page cache.
    """

    def __init__(self, folder: Path) -> None:
        """Read the headers.

        Raises:
            CheckpointProblem: weights are missing or damaged.
        """
        files = {validation.WEIGHTS}
        if (folder / validation.INDEX).is_file():
            files = set(validation.read_weight_map(folder).values())
        validation.check_weights(folder)
        self._folder = folder
        self._buffers: dict[str, mmap.mmap] = {}
        self._entries: dict[str, tuple[str, safetensors_header.Tensor]] = {}
        for file in sorted(files):
            self._entries |= {
                name: (file, entry) for name, entry in safetensors_header.read_header(folder / file).items()
            }

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def check(self, name: str, shape: Iterable[int] | None, dtypes: Iterable[str] = FLOATS) -> tuple[int, ...]:
        """Return the shape of tensor `name` after comparing it, and its dtype, with what is expected.

        Raises:
            CheckpointProblem: it is missing, or something else than expected; the text says what.
        """
        if name not in self:
            raise CheckpointProblem("ModelInvalid", f"the weights lack {name!r}, which config.json asks for")
        entry = self._entries[name][1]
        if shape is not None and entry.shape != tuple(shape):
            raise CheckpointProblem(
                "ModelInvalid", f"{name!r} has shape {list(entry.shape)}, config.json asks for {list(shape)}"
            )
        if entry.dtype not in dtypes:
            raise CheckpointProblem("ModelUnsupported", f"{name!r} is {entry.dtype}, expected {' or '.join(dtypes)}")
        return entry.shape

    def tensor(self, name: str) -> Tensor:
        """Return tensor `name` as a view on its file."""
        file, entry = self._entries[name]
        if file not in self._buffers:
            with (self._folder / file).open("rb") as opened:
                # A private map, since torch warns about buffers that it could not write to.
                self._buffers[file] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        buffer = self._buffers[file]
        if entry.begin == entry.end:
            return torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
        begin = 8 + int.from_bytes(buffer[:8], "little") + entry.begin
        content = torch.frombuffer(buffer, dtype=torch.uint8, count=entry.end - entry.begin, offset=begin)
        dtype = DTYPES[entry.dtype]
        if begin % dtype.itemsize:
            content = content.clone()
        return content.view(dtype).view(entry.shape)
