"""`python -m benchmarks server|engine|report`: what `make bench-server`, `bench-engine` and `bench-report` run.

Progress goes to stderr; stdout gets the tables and, as its last line, the summary as one JSON object.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import engine_run, models, report, server_run
from benchmarks.environments import ROOT
from benchmarks.figures import Figures, engine_summary, server_summary
from benchmarks.limits import sizes
from benchmarks.measuring import ATTEMPTS, OTHERS_LIMIT_CORES, Notebook, commit, machine, versions
from benchmarks.records import Run, read

RESULTS = ROOT / "benchmarks" / "results"
CHECKPOINTS = ROOT / "build" / "bench"
PAGE = ROOT / "docs" / "benchmarks.md"
MODEL: models.Name = "m125"


def main() -> int:
    """Run one of the three."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, peers in (("server", server_run.PEERS), ("engine", engine_run.PEERS)):
        command = commands.add_parser(name)
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--peers", nargs="*", default=list(peers), choices=peers, help="measured beside ours")
        command.add_argument("--others-limit", type=float, default=OTHERS_LIMIT_CORES, help="cores that others may use")
        command.add_argument("--attempts", type=int, default=ATTEMPTS, help="at one measurement, until it is quiet")
        command.add_argument("--results", type=Path, default=RESULTS, help="folder that keeps the records")
        if name == "server":
            phases = server_run.PHASES
            command.add_argument("--only", nargs="*", default=list(phases), choices=phases, help="phases of the run")
    command = commands.add_parser("report")
    command.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.command == "report":
        return _write_page(arguments.results)
    # Ended from outside, this process still ends the servers that it has started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    notebook = _notebook(arguments)
    m125 = models.checkpoint(CHECKPOINTS, MODEL)
    if arguments.command == "server":
        server_run.run(notebook, m125, arguments.rounds, arguments.peers, arguments.only)
    else:
        engine_run.run(notebook, m125, arguments.rounds, arguments.peers)
    _print(_figures(notebook.path))
    return 1 if notebook.failed else 0


def _print(figures: Figures) -> None:
    summary = server_summary(figures) if figures.run.benchmark == "server" else engine_summary(figures)
    print(f"{report.conditions(figures)}\n\n{report.text(figures)}\n\n{json.dumps(summary)}", flush=True)


def _write_page(results: Path) -> int:
    """Write docs/benchmarks.md and its pictures from the newest run of each kind in `results`."""
    newest = {kind: max(results.glob(f"*-{kind}.jsonl"), default=None) for kind in ("server", "engine")}
    found = {kind: _figures(path) for kind, path in newest.items() if path is not None}
    for kind, figures in found.items():
        PAGE.with_name(f"benchmarks-{kind}.svg").write_text(report.picture(figures))
    PAGE.write_text(report.page(found))
    return 0


def _figures(path: Path) -> Figures:
    return Figures(read(path), sizes(models.config(MODEL)))


def _notebook(arguments: argparse.Namespace) -> Notebook:
    arguments.results.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    path = arguments.results / f"{now:%Y-%m-%dT%H%M%S}-{arguments.command}.jsonl"
    notebook = Notebook(path, arguments.others_limit, arguments.attempts)
    notebook.keep(
        Run(
            benchmark=arguments.command,
            date=f"{now:%Y-%m-%d %H:%M} UTC",
            commit=commit(),
            machine=machine(),
            versions=versions(),
            model=MODEL,
            rounds=arguments.rounds,
            others_limit_cores=arguments.others_limit,
        )
    )
    return notebook


if __name__ == "__main__":
    sys.exit(main())
