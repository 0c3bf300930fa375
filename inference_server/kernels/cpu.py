"""What the CPU of this machine can do, as the kernel of the operating system tells it."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
NEEDED = frozenset(("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16", "fma"))
BETTER = "amx_bf16"
"""With it, oneDNN multiplies large matrices several times faster than any use of AVX512 can."""


def suits_kernels(cpuinfo: Path = CPUINFO) -> bool:
    """Whether our kernels run on this CPU and are the best choice there."""
    flags = cpu_flags(cpuinfo)
    return flags >= NEEDED and BETTER not in flags


def cpu_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """Return the flags of the first CPU; empty where there is no such line (other architectures)."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), frozenset())
