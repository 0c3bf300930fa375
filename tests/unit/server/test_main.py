"""The last resort of the program: what nobody caught is told in the termination message, without its text."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from inference_server import __main__ as program
from inference_server.settings import Settings


@pytest.fixture
def root_logger() -> Iterator[None]:
    """Give the root logger its handlers back: the program sets its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.mark.usefixtures("root_logger")
@pytest.mark.parametrize(
    ("command", "reason"), [("serve", "EngineFailed"), ("warmup", "WarmupFailed"), ("sweep", "WarmupFailed")]
)
def test_an_error_nobody_expected_is_exit_70_and_a_termination_message_without_its_text(
    command: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(settings: Settings) -> int:
        raise RuntimeError("a text that may hold a secret")

    monkeypatch.setenv("MODEL_NAME", "tiny")
    monkeypatch.setenv("LLMSERVICE_TERMINATION_LOG", str(tmp_path / "message"))
    monkeypatch.setattr("sys.argv", ["inference_server", command])
    monkeypatch.setattr(program, f"_{command}", broken)

    assert program.main() == 70
    assert json.loads((tmp_path / "message").read_text())["failure"] == {
        "reason": reason,
        "message": "internal error: RuntimeError; its traceback is in the log",
    }
