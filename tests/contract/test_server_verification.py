"""A server process with golden prompts: ready once they are answered, else an end that the operator understands."""

from pathlib import Path

import pytest

from tests.support.server_process import ready_server, run_to_end

PROMPTS = '{"timeoutSeconds": %s, "prompts": [{"prompt": "a", "maxTokens": 8, "expectAnyOf": %s}]}'


def folder_with(tmp_path: Path, expected: str, timeout_seconds: float = 10.0) -> Path:
    (tmp_path / "prompts.json").write_text(PROMPTS % (timeout_seconds, expected))
    return tmp_path


async def test_it_becomes_ready_when_the_model_answers_as_expected(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, '["no such text", " "]')
    async with ready_server(tmp_path, LLMSERVICE_VERIFICATION_DIR=folder) as server:
        assert (await server.management.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("expected", "seconds", "reason"),
    [
        pytest.param('["no such text"]', 10.0, "PromptFailed", id="a wrong answer"),
        pytest.param("[]", 0.01, "PromptTimedOut", id="too slow"),
    ],
)
async def test_it_ends_with_exit_code_65_and_its_reason(
    tmp_path: Path, expected: str, seconds: float, reason: str
) -> None:
    folder, log = folder_with(tmp_path, expected, seconds), tmp_path / "termination-log"
    code, _, _ = await run_to_end(
        "serve", LLMSERVICE_VERIFICATION_DIR=folder, LLMSERVICE_TERMINATION_LOG=log, LLMSERVICE_ENGINE="fake"
    )
    assert code == 65
    assert f'"reason":"{reason}"' in log.read_text()


async def test_a_proven_revision_may_be_slow(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "[]", timeout_seconds=0.01)
    (folder / "0123456789").touch()
    async with ready_server(tmp_path, LLMSERVICE_VERIFICATION_DIR=folder, LLMSERVICE_REVISION="0123456789") as server:
        assert await server.phase() == "Ready"


async def test_prompts_that_are_not_there_are_a_bad_configuration(tmp_path: Path) -> None:
    code, _, err = await run_to_end("serve", LLMSERVICE_VERIFICATION_DIR=tmp_path, LLMSERVICE_ENGINE="fake")
    assert code == 78
    assert err.startswith("LLMSERVICE_VERIFICATION_DIR: ")
