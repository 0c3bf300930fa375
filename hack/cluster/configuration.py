"""Writes the programs' configuration files."""

from pathlib import Path


def write(path: Path, text: str) -> Path:
    """Write `text` to `path` unless that is what it holds, and return the path.

    kube-proxy ends when its file is written to, whatever is written.
    """
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return path
