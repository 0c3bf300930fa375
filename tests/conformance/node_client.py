"""Runs OpenAI's client for Node, which `make conformance` has put into build/openai-node."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.support.server_process import ROOT

INSTALLED = ROOT / "build" / "openai-node"
SCRIPT = ROOT / "tests" / "conformance" / "node" / "client.mjs"
SECONDS = 50.0


async def node_client(port: int, scenario: str) -> Any:
    """Return what the client made of the server on `port` in one of the script's scenarios."""
    assert (INSTALLED / "node_modules").is_dir(), "run `make conformance`, which installs the client"
    process = await asyncio.create_subprocess_exec(
        "node",
        str(SCRIPT),
        f"http://127.0.0.1:{port}/v1",
        scenario,
        cwd=INSTALLED,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)
