"""Builds the cluster's programs from the Go modules under tools/ and keeps them in the cache.

A folder of the cache holds what one go.mod and go.sum give, so a change of version builds anew and an old
checkout still finds its own.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster import layout
from cluster.lock import exclusive
from cluster.progress import step
from cluster.trouble import Trouble

KUBERNETES_VERSION = "v1.34.4"
OLDEST_KUBECTL_MINOR = 30

_VERSION_PACKAGE = "k8s.io/component-base/version"
# Without these the programs report v0.0.0, and what reads the server's version goes wrong.
_KUBERNETES_FLAGS = (
    f"-X {_VERSION_PACKAGE}.gitVersion={KUBERNETES_VERSION} -X {_VERSION_PACKAGE}.gitMajor=1 "
    f"-X {_VERSION_PACKAGE}.gitMinor={KUBERNETES_VERSION.split('.')[1]}"
)


@dataclass(frozen=True)
class Program:
    """One program: the module under tools/ that pins it, and its package."""

    module: str
    package: str
    linker_flags: str = ""
    tags: str = ""


def _kubernetes(name: str) -> Program:
    return Program("kubernetes", f"k8s.io/kubernetes/cmd/{name}", _KUBERNETES_FLAGS)


CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE = (*CONTROL_PLANE, "kubelet", "kube-proxy", "coredns", "pause")

PROGRAMS = {
    "etcd": Program("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": _kubernetes("kube-apiserver"),
    "kube-controller-manager": _kubernetes("kube-controller-manager"),
    "kube-scheduler": _kubernetes("kube-scheduler"),
    "kubelet": _kubernetes("kubelet"),
    "kube-proxy": _kubernetes("kube-proxy"),
    "kubectl": _kubernetes("kubectl"),
    "coredns": Program("coredns", "github.com/coredns/coredns"),
    "metrics-server": Program("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    "kstatus": Program("kstatus", "."),
    "kwok": Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "pause": Program("pause", "."),
    # For rules alone: without the clients of every cloud in which Prometheus can look for targets.
    "promtool": Program("prometheus", "github.com/prometheus/prometheus/cmd/promtool", tags="remove_all_sd"),
    "versitygw": Program("versitygw", "github.com/versity/versitygw/cmd/versitygw"),
}


def module_key(module: Path) -> str:
    """Return the hash that names the cache folder of `module`: everything that decides what is built."""
    digest = hashlib.sha256()
    for source in sorted(path for path in module.iterdir() if path.suffix in {".mod", ".sum", ".go"}):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def cached_path(name: str) -> Path:
    """Return where the program `name` is kept once it has been built."""
    module = PROGRAMS[name].module
    return layout.cache() / "bin" / f"{module}-{module_key(layout.TOOLS / module)}" / name


def ensure(names: Iterable[str]) -> dict[str, Path]:
    """Build what the cache lacks of `names`; return the path of each.

    Raises:
        Trouble: there is no Go, or a build failed.
    """
    paths = {name: cached_path(name) for name in names}
    missing = [name for name, path in paths.items() if not path.exists()]
    if missing:
        with exclusive(layout.cache() / "bin" / "lock", "it is building the cluster's programs"):
            for number, name in enumerate(missing, start=1):
                if not paths[name].exists():
                    _build(name, paths[name], f"{number} of {len(missing)}")
    return paths


def _build(name: str, target: Path, position: str) -> None:
    program = PROGRAMS[name]
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if go is None:
        raise Trouble(f"cannot build {name}: there is no `go` on PATH; install Go 1.24 or newer (https://go.dev/dl)")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    flags = ["-trimpath", "-tags", program.tags, "-ldflags", f"-s -w {program.linker_flags}"]
    command = [go, "build", *flags, "-o", str(partial)]
    with step(f"building {name} ({position})"):
        built = subprocess.run(
            [*command, program.package],
            cwd=layout.TOOLS / program.module,
            env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"},
            capture_output=True,
            text=True,
            check=False,
        )
    if built.returncode != 0:
        raise Trouble(f"building {name} failed:\n{built.stderr[-3000:]}")
    partial.rename(target)


def kubectl() -> Path:
    """Return a kubectl that suits the cluster: the machine's when it is new enough, else our own build."""
    found = shutil.which("kubectl")
    if found is not None:
        asked = subprocess.run([found, "version", "--client"], capture_output=True, text=True, check=False)
        version = re.search(r"Client Version: v1\.(\d+)", asked.stdout)
        if version and int(version[1]) >= OLDEST_KUBECTL_MINOR:
            return Path(found)
    return ensure(["kubectl"])["kubectl"]
