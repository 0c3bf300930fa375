"""The network namespace in which every process of the node runs, so that the machine's own network stays as it is.

Entered with nsenter: `ip netns exec` would mount a new /sys and hide the cgroup mounts from the kubelet.
"""

import subprocess
from pathlib import Path

from cluster import layout, packages
from cluster.controlplane import SERVICE_RANGE

BRIDGE = "cni0"
NODE_ADDRESS = "10.88.0.1"
POD_RANGE = "10.88.0.0/16"
_HANDLE = Path("/run/netns") / layout.NODE_NAME


def prefix() -> tuple[str, ...]:
    """Return the command prefix that runs a command inside."""
    return ("nsenter", f"--net={_HANDLE}", "--")


def exists() -> bool:
    """Tell whether the namespace is there and mounted: after a reboot only its empty file could be left."""
    # Path.is_mount() knows folders only.
    return _HANDLE.exists() and _HANDLE.stat().st_dev != _HANDLE.parent.stat().st_dev


def create() -> None:
    """Make the namespace with loopback, the pods' bridge and a route for Service addresses; repeat at will."""
    ip = str(packages.path_of("ip"))
    if not exists():
        _HANDLE.unlink(missing_ok=True)
        subprocess.run([ip, "netns", "add", layout.NODE_NAME], check=True)
    script = f"""
        set -e
        {ip} link set lo up
        {ip} link show {BRIDGE} >/dev/null 2>&1 || {ip} link add {BRIDGE} type bridge
        {ip} address replace {NODE_ADDRESS}/16 dev {BRIDGE}
        {ip} link set {BRIDGE} up
        # Without a route the kernel refuses a Service's address before kube-proxy's rules see it.
        {ip} route replace {SERVICE_RANGE} dev {BRIDGE} src {NODE_ADDRESS}
        echo 1 > /proc/sys/net/ipv4/ip_forward
        # Has traffic between two pods of the bridge pass the rules for Services.
        if [ -e /proc/sys/net/bridge ]; then echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; fi
    """
    subprocess.run([*prefix(), "sh", "-c", script], check=True)


def delete() -> None:
    """Delete the namespace and with it every bridge, address and rule inside."""
    if exists():
        subprocess.run([str(packages.path_of("ip")), "netns", "delete", layout.NODE_NAME], check=True)
    _HANDLE.unlink(missing_ok=True)
    folder = _HANDLE.parent
    # `ip netns add` mounts the folder onto itself and leaves that behind.
    if folder.exists() and not any(folder.iterdir()):
        subprocess.run(["umount", str(folder)], capture_output=True, check=False)
