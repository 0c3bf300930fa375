"""The distribution's programs that the node and the images need, added to the machine when they are missing.

Packages are only ever added. A program that is there is used as it is, whoever installed it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.progress import step
from cluster.trouble import Trouble

_SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
CNI_DIRECTORIES = (Path("/opt/cni/bin"), Path("/usr/lib/cni"), Path("/usr/libexec/cni"))
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")


@dataclass(frozen=True)
class Package:
    """A Debian package and the program by which one sees that it, or another source of it, is installed."""

    name: str
    program: str
    starts_service: bool = False


BASE = (Package("openssl", "openssl"), Package("util-linux", "setpriv"), Package("curl", "curl"))
NODE = (
    *BASE,
    Package("containerd", "containerd", starts_service=True),
    Package("runc", "runc"),
    Package("containernetworking-plugins", "cni"),
    Package("iptables", "iptables"),
    Package("iproute2", "ip"),
    Package("conntrack", "conntrack"),
    Package("docker-registry", "docker-registry", starts_service=True),
)
IMAGES = (Package("buildah", "buildah"), Package("runc", "runc"), Package("curl", "curl"), Package("git", "git"))
BOOTSTRAP = (Package("debootstrap", "debootstrap"),)


def find(program: str) -> Path | None:
    """Return where `program` is, also outside the PATH of users who are not root; "cni" is a folder of plug-ins."""
    if program == "cni":
        return next((folder for folder in CNI_DIRECTORIES if all((folder / p).exists() for p in CNI_PLUGINS)), None)
    found = shutil.which(program, path=_SEARCH_PATH)
    return Path(found) if found else None


def path_of(program: str) -> Path:
    """Return where `program` is.

    Raises:
        Trouble: it is not installed.
    """
    found = find(program)
    if found is None:
        raise Trouble(f"{program} is not installed")
    return found


def ensure(packages: Iterable[Package]) -> None:
    """Install those of `packages` whose program the machine lacks, without starting any service of theirs.

    Raises:
        Trouble: there is no apt-get here, or it failed.
    """
    missing = [package for package in dict.fromkeys(packages) if find(package.program) is None]
    if not missing:
        return
    names = " ".join(package.name for package in missing)
    if shutil.which("apt-get") is None:
        programs = ", ".join(package.program for package in missing)
        raise Trouble(f"this machine lacks {programs}, and there is no apt-get to install them with ({names})")
    if os.geteuid() != 0:
        raise Trouble(f"this machine lacks the packages {names}; run as root, or: apt-get install {names}")
    with step(f"installing {names}"), _no_service_starts():
        # The lists of a fresh container are empty or stale; a failed update alone is no reason to stop.
        _apt("update")
        installed = _apt("install", "-y", "--no-install-recommends", "--no-remove", *names.split())
    if installed.returncode != 0:
        raise Trouble(f"apt-get install {names} failed:\n{installed.stderr[-2000:]}")
    _keep_from_boot([package.name for package in missing if package.starts_service])


def _apt(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    return subprocess.run(["apt-get", "-q", *arguments], env=environment, capture_output=True, text=True, check=False)


def _keep_from_boot(services: list[str]) -> None:
    if services and Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "--quiet", "disable", *services], capture_output=True, check=False)


@contextmanager
def _no_service_starts(policy: Path = Path("/usr/sbin/policy-rc.d")) -> Iterator[None]:
    """Answer "forbidden" to every package that would start its service, and put back what answered before."""
    kept = policy.with_name("policy-rc.d.before-llmservice")
    # A file kept by a run that was killed is the original; what stands there now is ours.
    if policy.exists() and not kept.exists():
        policy.rename(kept)
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)
        if kept.exists():
            kept.rename(policy)
