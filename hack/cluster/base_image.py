"""Makes the image that the Dockerfiles start from available: pulled where it can be, else bootstrapped from Debian."""

import shutil
import subprocess
from pathlib import Path

from cluster import buildah, layout, packages
from cluster.progress import say, step
from cluster.trouble import Trouble

NAME = "docker.io/library/debian:bookworm-slim"
_SUITE = "bookworm"
_MIRROR = "http://deb.debian.org/debian"
_PULL_SECONDS = 120.0
_SOURCES = f"""\
deb {_MIRROR} {_SUITE} main
deb {_MIRROR} {_SUITE}-updates main
deb {_MIRROR}-security {_SUITE}-security main
"""
# As in the image of that name: nobody reads manuals inside a container.
_SLIM = """\
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
"""


def ensure() -> None:
    """Have the base image in the store."""
    if buildah.has(NAME):
        return
    try:
        with step(f"pulling {NAME}"):
            buildah.run("pull", "--quiet", NAME, timeout_seconds=_PULL_SECONDS)
    except Trouble:
        say(f"{NAME} cannot be pulled from here; making it with debootstrap")
        _bootstrap()


def _bootstrap() -> None:
    packages.ensure(packages.BOOTSTRAP)
    root = layout.cache() / "base-rootfs"
    shutil.rmtree(root, ignore_errors=True)
    with step(f"bootstrapping Debian {_SUITE}"):
        ran = subprocess.run(
            [str(packages.path_of("debootstrap")), "--variant=minbase", _SUITE, str(root), _MIRROR],
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode != 0:
            raise Trouble(f"debootstrap failed:\n{ran.stdout[-2000:]}{ran.stderr[-500:]}")
        _slim(root)
        _commit(root)
    shutil.rmtree(root)


def _slim(root: Path) -> None:
    (root / "etc" / "apt" / "sources.list").write_text(_SOURCES)
    (root / "etc" / "dpkg" / "dpkg.cfg.d" / "slim").write_text(_SLIM)
    for folder in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/man", "usr/share/info", "var/log"):
        for path in (root / folder).rglob("*"):
            if path.is_file():
                path.unlink()


def _commit(root: Path) -> None:
    container = buildah.run("from", "scratch").strip()
    try:
        buildah.run("add", "--quiet", container, root, "/")
        buildah.run("config", "--cmd", "bash", container)
        buildah.run("commit", "--quiet", container, NAME)
    finally:
        buildah.run("rm", container)
