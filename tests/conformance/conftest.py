"""Servers for the official clients: real processes, with a tiny real model and with the fake engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.models import write_checkpoint
from tests.support.server_process import ServerProcess, ready_server


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a float32 checkpoint, so that two ways to one answer give the same text; this seed says several words."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "tiny", dtype="float32", seed=5)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerProcess]:
    """Return a server with the tiny model; all tests of a module share it."""
    folder = tmp_path_factory.mktemp("tiny")
    variables: dict[str, object] = {
        "LLMSERVICE_ENGINE": "transformers",
        "LLMSERVICE_MODEL_PATH": tiny_model,
        "LLMSERVICE_QUANTIZATION": "none",
        "LLMSERVICE_MAX_BATCH_SIZE": 8,
    }
    async with ready_server(folder, **variables) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fake(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerProcess]:
    """Return a quick server with the fake engine; all tests of a module share it."""
    async with ready_server(tmp_path_factory.mktemp("fake"), LLMSERVICE_MAX_BATCH_SIZE=8) as server:
        yield server


@pytest.fixture(params=["tiny", "fake"])
def server(request: pytest.FixtureRequest) -> ServerProcess:
    """Return each of the two servers in turn."""
    server: ServerProcess = request.getfixturevalue(request.param)
    return server
