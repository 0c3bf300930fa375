"""How many threads the engine may use, and how they wait: from the cgroup quota, not from the size of the node.

OpenMP threads that spin at a barrier burn the quota of a container and lose 2.8 times to one busy neighbour, and torch
counts the cores of the node, so both are set before torch is imported.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def cpu_count(root: Path = CGROUP_ROOT, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return the whole cores this process may keep busy: the smaller of affinity and quota, at least 1."""
    available = len(os.sched_getaffinity(0))
    quota = cpu_quota(root, membership)
    return available if quota is None else max(1, min(available, math.floor(quota + 1e-6)))


def cpu_quota(root: Path, membership: Path) -> float | None:
    """Return the tightest CPU quota above this process in cores, None without one. Knows cgroup v2 and v1."""
    quotas = [quota for folder in _folders(root, membership) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def openmp_environment(count: int) -> dict[str, str]:
    """Return the variables that make OpenMP, GNU's and Intel's, use `count` threads that sleep while they wait."""
    return {
        "OMP_NUM_THREADS": str(count),
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "KMP_BLOCKTIME": "0",
    }


def _folders(root: Path, membership: Path) -> Iterator[Path]:
    """Yield the cgroup folders of this process from the inside out.

    In a container the root of the mount is its own cgroup, or, without a cgroup namespace, the path of the host leads
    there.
    """
    lines = membership.read_text().splitlines() if membership.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount = root
        elif "cpu" in controllers.split(","):
            mount = root / controllers if (root / controllers).is_dir() else root / "cpu"
        else:
            continue
        folder = mount / path.lstrip("/")
        yield from (parent for parent in (folder, *folder.parents) if parent.is_relative_to(mount))


def _quota(folder: Path) -> float | None:
    try:
        if (unified := folder / "cpu.max").is_file():
            quota, period = unified.read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return None if quota == "max" or int(quota) < 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return None
