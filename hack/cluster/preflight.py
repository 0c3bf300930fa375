"""Asks of the machine, before anything starts, what the node needs of it."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from cluster import layout
from cluster.trouble import Trouble

FIRST_BUILD_GIB = 35
LATER_GIB = 8


def check_node() -> None:
    """Return when a node can run here.

    Raises:
        Trouble: something is missing; the message lists all of it.
    """
    missing = [*_system(), *_kernel()]
    if not missing:
        missing = _disk()
    if missing:
        raise Trouble("this machine cannot run the cluster:\n" + "\n".join(f"  - {line}" for line in missing))


def _system() -> list[str]:
    missing = []
    if sys.platform != "linux":
        missing.append(f"it runs {sys.platform}, the node needs Linux: set KUBECONFIG to use a cluster of your own")
    if platform.machine() not in {"x86_64", "aarch64"}:
        missing.append(f"its processor is {platform.machine()}; x86_64 and aarch64 are supported")
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        missing.append("this is not root: network namespaces, mounts and control groups need it")
    return missing


def _kernel() -> list[str]:
    if sys.platform != "linux":
        return []
    missing = []
    filesystems = Path("/proc/filesystems").read_text().split()
    for module, is_there in (
        ("overlay", "overlay" in filesystems),
        ("br_netfilter", Path("/proc/sys/net/bridge").exists()),
        ("ip_tables", Path("/proc/net/ip_tables_names").exists()),
    ):
        if not is_there and shutil.which("modprobe"):
            subprocess.run(["modprobe", module], capture_output=True, check=False)
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        missing.append("its kernel has no overlay file system (CONFIG_OVERLAY_FS)")
    if not Path("/sys/fs/cgroup").is_mount():
        missing.append("control groups are not mounted at /sys/fs/cgroup")
    if not Path("/proc/self/ns/net").exists():
        missing.append("its kernel has no network namespaces (CONFIG_NET_NS)")
    return missing


def _disk() -> list[str]:
    cache = layout.cache()
    cache.mkdir(parents=True, exist_ok=True)
    is_first = not (cache / "containerd").exists()
    wanted = FIRST_BUILD_GIB if is_first else LATER_GIB
    free = shutil.disk_usage(cache).free / 2**30
    if free >= wanted:
        return []
    why = "binaries, images and their layers the first time" if is_first else "new image layers"
    return [f"{free:.0f} GiB are free where {cache} is, {wanted} are needed ({why}); LLMSERVICE_CACHE moves the cache"]
