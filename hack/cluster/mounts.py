"""Finds and takes away what the node mounted: pod volumes, container roots, namespaces."""

import subprocess
from pathlib import Path


def below(directories: list[Path], table: str) -> list[Path]:
    """Return the mount points at or below `directories` in a /proc/mounts `table`, innermost first."""
    points = [Path(line.split()[1].replace("\\040", " ")) for line in table.splitlines() if line]
    inside = [point for point in points if any(point == top or top in point.parents for top in directories)]
    return sorted(inside, key=lambda point: len(point.parts), reverse=True)


def unmount(directories: list[Path]) -> None:
    """Unmount everything at or below `directories`; what is busy goes as soon as its last user does."""
    for point in below(directories, Path("/proc/mounts").read_text()):
        subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)
