"""The node's own branch of the control groups, in which the kubelet keeps its pods apart from everybody else's."""

import contextlib
import os
import signal
import time
from pathlib import Path

from cluster.layout import NODE_NAME

_ROOT = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """Return the mounted hierarchies: each controller's with cgroup v1, the one with cgroup v2."""
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    return [path for path in sorted(_ROOT.iterdir()) if path.is_dir() and not path.is_symlink() and path.is_mount()]


def create() -> None:
    """Make the branch in every hierarchy."""
    for hierarchy in hierarchies():
        branch = hierarchy / NODE_NAME
        branch.mkdir(exist_ok=True)
        # cgroup v1 gives a new cpuset nothing, and then no process may enter it.
        for setting in ("cpuset.cpus", "cpuset.mems"):
            given = hierarchy / setting
            if given.exists() and (branch / setting).exists() and not (branch / setting).read_text().strip():
                (branch / setting).write_text(given.read_text())
        if (hierarchy / "cgroup.subtree_control").exists() and (branch / "cgroup.subtree_control").exists():
            controllers = (hierarchy / "cgroup.controllers").read_text().split()
            for folder in (hierarchy, branch):
                _enable(folder, controllers)


def _enable(folder: Path, controllers: list[str]) -> None:
    for controller in controllers:
        with contextlib.suppress(OSError):  # one that may not be delegated; the kubelet names it if it needs it
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def kill(patience_seconds: float = 10.0) -> None:
    """Kill every process in the branch: the containers of all pods."""
    deadline = time.monotonic() + patience_seconds
    while (inside := _processes()) and time.monotonic() < deadline:
        for pid in inside:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _processes() -> set[int]:
    found: set[int] = set()
    for hierarchy in hierarchies():
        for members in (hierarchy / NODE_NAME).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in members.read_text().split())
    return found - {0}


def delete() -> None:
    """Remove the branch, innermost groups first."""
    for hierarchy in hierarchies():
        branch = hierarchy / NODE_NAME
        groups = [Path(folder) for folder, _, _ in os.walk(branch, topdown=False)] if branch.exists() else []
        for group in groups:
            with contextlib.suppress(OSError):
                group.rmdir()
