"""`python -m inference_server.kernels.build`: compile the kernels beside their source; only the standard library."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("llama_avx512.cpp")
LIBRARY = SOURCE.with_suffix(".so")

INSTRUCTIONS = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512bf16", "fma")
"""Fixed, not those of the building machine: `kernels.cpu` asks the CPU that runs them."""


def command(source: Path = SOURCE, library: Path = LIBRARY) -> list[str]:
    """Return how to build `library`: self-contained, because an image need not have the C++ runtime.

    The two warnings left out are false ones about intrinsics in GCC 12's own headers (its bug 105593).
    """
    flags = ["-O3", "-std=c++17", "-fPIC", "-shared", "-fno-exceptions", "-fno-rtti", "-pthread"]
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-maybe-uninitialized", "-Wno-uninitialized"]
    instructions = [f"-m{name}" for name in INSTRUCTIONS]
    return [
        "g++",
        *flags,
        *warnings,
        *instructions,
        "-static-libstdc++",
        "-static-libgcc",
        str(source),
        "-o",
        str(library),
    ]


def main() -> int:
    """Build, or say why there is nothing to build."""
    if platform.machine() != "x86_64":
        print(f"no kernels for {platform.machine()}: the torch path serves there")  # noqa: T201 - a command's output
        return 0
    return subprocess.run(command(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
