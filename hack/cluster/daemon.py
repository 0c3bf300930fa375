"""One long-running program of the node, started at most once and found again by the next run of the tool."""

from dataclasses import dataclass
from pathlib import Path

from cluster import layout, processes
from cluster.network_namespace import prefix


@dataclass(frozen=True)
class Daemon:
    """A program in the node's network namespace; `name` names its log and the record of its process."""

    name: str
    command: tuple[str, ...]

    @property
    def log(self) -> Path:
        """Where it logs."""
        return layout.STATE / "log" / f"{self.name}.log"

    @property
    def _record(self) -> Path:
        return layout.STATE / "run" / f"{self.name}.json"

    def process(self) -> processes.Process | None:
        """Return its process when it runs."""
        return processes.recorded(self._record)

    def ensure(self) -> bool:
        """Start it unless it runs; tell whether it was started."""
        if self.process() is not None:
            return False
        started = processes.start([*prefix(), *self.command], self.log, outlives_caller=True)
        processes.record(started, self._record)
        return True


def running() -> dict[str, processes.Process]:
    """Return the node's daemons that run, by name, also those that a different version of this tool started."""
    records = sorted((layout.STATE / "run").glob("*.json")) if layout.STATE.exists() else []
    found = {record.stem: processes.recorded(record) for record in records}
    return {name: process for name, process in found.items() if process is not None}
