"""Real `python -m inference_server serve` processes on free loopback ports, with the fake engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0


@dataclass
class ServerProcess:
    """One server; `public` and `management` are clients of its two ports."""

    process: asyncio.subprocess.Process
    port: int
    public: httpx.AsyncClient
    management: httpx.AsyncClient
    termination_log: Path

    async def phase(self) -> str:
        """Return the phase in the state document."""
        return str((await self.state())["phase"])

    async def state(self) -> dict[str, Any]:
        """Return the state document."""
        document: dict[str, Any] = (await self.management.get("/internal/v1/state")).json()
        return document

    def engine_pid(self) -> int:
        """Return the process id of the engine process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        (pid,) = (int(child) for child in children)
        return pid

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self, seconds: float = 15.0) -> int:
        """Wait for the end of the process."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    def failure(self) -> dict[str, str]:
        """Return the failure in the termination message."""
        failure: dict[str, str] = json.loads(self.termination_log.read_text())["failure"]
        return failure

    async def send_raw(self, raw: bytes, seconds: float = 10.0) -> bytes:
        """Send bytes to the public port and return everything that comes back until it closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(raw)
            async with asyncio.timeout(seconds):
                return await reader.read()
        finally:
            writer.close()


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on; they are held together, so they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def environment(**variables: object) -> dict[str, str]:
    """Return the environment of a server: ours, without what this machine may have set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMSERVICE_", "HF_", "HUGGING"))}
    return {**kept, "MODEL_NAME": "tiny", "LLMSERVICE_ENGINE": "fake", **{k: str(v) for k, v in variables.items()}}


def command(*arguments: str, module: str = "inference_server") -> list[str]:
    """Return the command line of the server, or of one that `module` makes of it."""
    return [sys.executable, "-m", module, *arguments]


async def run_to_end(*arguments: str, **variables: object) -> tuple[int, str, str]:
    """Run the server where it is expected to end by itself; return exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        cwd=ROOT,
        env=environment(**variables),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(START_SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def server_process(
    folder: Path, module: str = "inference_server", /, **variables: object
) -> AsyncIterator[ServerProcess]:
    """Yield a server whose ports answer; it may still be loading. `folder` takes log and termination message."""
    port, management_port = free_ports(2)
    settings = {
        "LLMSERVICE_HOST": "127.0.0.1",
        "LLMSERVICE_PORT": port,
        "LLMSERVICE_MANAGEMENT_PORT": management_port,
        "LLMSERVICE_TERMINATION_LOG": folder / "termination-log",
        "LLMSERVICE_ENDPOINT_GRACE_SECONDS": 0,
        "LLMSERVICE_FAKE_FIRST_TOKEN_SECONDS": 0,
        "LLMSERVICE_FAKE_TOKENS_PER_SECOND": 2000,
        **variables,
    }
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command("serve", module=module), cwd=ROOT, env=environment(**settings), stdout=log, stderr=log
        )
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as public,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{management_port}", timeout=30) as management,
    ):
        server = ServerProcess(process, port, public, management, folder / "termination-log")
        try:
            await _until_answering(server, folder / "log")
            yield server
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def ready_server(
    folder: Path, module: str = "inference_server", /, **variables: object
) -> AsyncIterator[ServerProcess]:
    """Yield a server that is ready."""
    async with server_process(folder, module, **variables) as server:
        await until_phase(server, "Ready")
        yield server


async def until_phase(server: ServerProcess, phase: str, seconds: float = START_SECONDS) -> None:
    """Wait until the server says that it is in `phase`.

    Raises:
        TimeoutError: it does not within `seconds`.
    """

    async def is_there() -> bool:
        return await server.phase() == phase

    await eventually_is(is_there, seconds)


async def eventually_is(holds: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Wait until `holds()`.

    Raises:
        TimeoutError: it did not within `seconds`.
    """
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.01)


async def _until_answering(server: ServerProcess, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            await server.management.get("/livez")
        except httpx.TransportError:
            if server.process.returncode is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server does not answer; its log: {log}") from None
            await asyncio.sleep(0.02)
        else:
            return
