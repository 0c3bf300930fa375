"""The operator's command line: `run --config FILE`, `crd`, `version`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llmservice_operator import version

BAD_CONFIGURATION: Final = 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 78 for a configuration file that cannot be used."""
    parsed = _parser().parse_args(arguments)
    match parsed.command:
        case "run":
            return _run(parsed.config)
        case "crd":
            return _crd()
        case _:
            sys.stdout.write(f"{version.VERSION}\n")
            return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmservice-operator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="reconcile LLMServices until SIGTERM")
    run.add_argument("--config", type=Path, required=True, help="the operator's configuration, a YAML file")
    commands.add_parser("crd", help="print the CustomResourceDefinition")
    commands.add_parser("version", help="print the version")
    return parser


def _run(config: Path) -> int:
    # Imported here, so that `version` and `crd` answer at once and need no cluster client.
    from llmservice_operator import logs, settings
    from llmservice_operator.process import Operator, run_until_signal

    try:
        loaded = settings.load(config)
    except settings.SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_CONFIGURATION
    logs.configure()
    kubeconfig = os.environ.get("KUBECONFIG")
    operator = Operator(
        loaded, Path(kubeconfig) if kubeconfig else None, lease_namespace=os.environ.get("POD_NAMESPACE")
    )
    asyncio.run(run_until_signal(operator))
    return 0


def _crd() -> int:
    from llmservice_operator import crd

    sys.stdout.write(crd.render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
