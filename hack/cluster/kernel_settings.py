"""Remembers the machine-wide kernel settings that a kubelet changes when it starts, and puts them back."""

import json
from pathlib import Path

_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def remember(path: Path) -> None:
    """Write the present values to `path`, unless a run before us already did."""
    if not path.exists():
        files = {name: Path("/proc/sys") / name for name in _SETTINGS}
        path.write_text(json.dumps({name: file.read_text().strip() for name, file in files.items() if file.exists()}))


def restore(path: Path) -> None:
    """Put back the values remembered at `path`."""
    if path.exists():
        for name, value in json.loads(path.read_text()).items():
            file = Path("/proc/sys") / name
            if file.read_text().strip() != value:
                file.write_text(value)
