"""The operator as a process of its own: as the container starts it, or as one of several replicas."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from tests.support.running_operator import SETTINGS

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 5.0


ON_ANY_PORT = """
import asyncio, sys
from pathlib import Path
from llmservice_operator import logs, settings
from llmservice_operator.process import Operator, run_until_signal
logs.configure()
config, kubeconfig, namespace = sys.argv[1:]
asyncio.run(run_until_signal(Operator(settings.load(Path(config)), Path(kubeconfig), 0, namespace)))
"""
"""Replicas have a pod's address each; here they share one, where the port of `run` is there once."""


@asynccontextmanager
async def operator_process(
    kubeconfig: Path, namespace: str, folder: Path, *, is_replica: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the operator for one namespace, its log in `folder`; as a replica with a Lease in that namespace.

    It must end within five seconds of SIGTERM, unless the body has killed it.
    """
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**SETTINGS, "watchNamespaces": [namespace]}))
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(ROOT / "operator")}
    command = ["-m", "llmservice_operator", "run", "--config", str(config)]
    if is_replica:
        command = ["-c", ON_ANY_PORT, str(config), str(kubeconfig), namespace]
    with (folder / "operator.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            env=environment,
            stderr=log,
            stdout=subprocess.DEVNULL,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            code = await process.wait()
        assert code in (0, -signal.SIGKILL), (folder / "operator.log").read_text()[-2000:]
