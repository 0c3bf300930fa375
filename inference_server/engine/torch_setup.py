"""How a process sets torch up: threads, memory, and the garbage collector while it loads. Imports no torch itself."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from inference_server.engine import threads

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h: from how much free memory on some goes back; from which size on an allocation is mapped by itself."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector off while torch and transformers are imported, and off what they leave for good.

    It would go through a million objects that all stay, again and again: 0.8 of 5.5 CPU seconds of each start, and
    later a pause of every stream for each full collection.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def prepare_torch() -> None:
    """Set the threads and the allocator of this process, before and after torch is imported."""
    _keep_freed_memory()
    count = threads.cpu_count()
    os.environ.update(threads.openmp_environment(count))
    import torch

    torch.set_num_threads(count)


def _keep_freed_memory() -> None:
    """Tell the C library to keep what is freed for the next allocation instead of giving it back to the kernel.

    A step allocates what the step before has freed. Without this each tensor of some MiB is mapped and zeroed anew,
    page by page: sampling for 32 sequences took 15 ms instead of 8.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return  # not glibc
    # Older versions map everything above 32 MiB, and refuse to be told otherwise.
    if not mallopt(M_MMAP_THRESHOLD, 1 << 30):
        mallopt(M_MMAP_THRESHOLD, 1 << 25)
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
