"""Golden prompts: a server is ready once the model answers them, and ends if it does not."""

from pathlib import Path

import pytest

from inference_server.settings import ConfigurationError
from inference_server.verification import GoldenPrompt, Verification, VerificationFailed, read_verification
from tests.support.model_server import eventually, starting_server


def verification(*prompts: GoldenPrompt, timeout_seconds: float | None = 10.0) -> Verification:
    return Verification.model_construct(timeout_seconds=timeout_seconds, prompts=prompts)


def golden(prompt: str = "the", max_tokens: int = 4, expected: tuple[str, ...] = ()) -> GoldenPrompt:
    return GoldenPrompt.model_construct(prompt=prompt, max_tokens=max_tokens, expect_any_of=expected)


async def first_words(max_tokens: int) -> str:
    """Return what the fake model answers."""
    async with starting_server() as server:
        await eventually(lambda: server.state.phase == "Ready")
        body = {"model": "tiny", "messages": [{"role": "user", "content": "the"}], "max_tokens": max_tokens}
        answer = await server.http.post("/v1/chat/completions", json={**body, "temperature": 0})
        return str(answer.json()["choices"][0]["message"]["content"])


async def failure_of(given: Verification, **settings: object) -> VerificationFailed:
    async with starting_server(given, **settings) as server:
        await eventually(lambda: bool(server.failures))
        assert server.state.phase != "Ready"
        (failure,) = server.failures
    assert isinstance(failure, VerificationFailed)
    return failure


async def test_a_server_whose_model_answers_as_expected_becomes_ready() -> None:
    words = await first_words(4)
    given = verification(golden(), golden(expected=("no such text", words.split()[1])))
    async with starting_server(given) as server:
        await eventually(lambda: server.state.phase == "Ready")


async def test_it_answers_nobody_before_and_says_how_far_it_is() -> None:
    given = verification(golden(max_tokens=1), golden(max_tokens=1000))
    async with starting_server(given, fake_tokens_per_second=10.0) as server:
        await eventually(lambda: server.state.phase == "Verifying")
        await eventually(lambda: server.state.progress is not None and server.state.progress.done == 1)
        assert server.state.document()["progress"]["unit"] == "prompts"
        assert (await server.http.post("/generate", json={"text": "a"})).status_code == 503


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        pytest.param(golden(expected=("PLANTED-EXPECTED",)), "none of the texts in expectAnyOf", id="another answer"),
        pytest.param(golden("PLANTED-PROMPT " * 600, expected=("a",)), "context_length_exceeded", id="too long"),
    ],
)
async def test_a_wrong_answer_ends_the_server_and_names_the_prompt_by_its_number(
    prompt: GoldenPrompt, words: str
) -> None:
    failure = await failure_of(verification(golden(), prompt), max_model_len=1024)
    assert failure.reason == "PromptFailed"
    assert str(failure).startswith("Look at prompt 2 of spec.rollout.verification.prompts")
    assert words in str(failure)
    assert "PLANTED" not in str(failure)


async def test_a_model_that_is_too_slow_ends_the_server() -> None:
    given = verification(golden(max_tokens=1000), timeout_seconds=0.2)
    failure = await failure_of(given, fake_tokens_per_second=5.0)
    assert failure.reason == "PromptTimedOut"
    assert "not all answered within 0.2 s" in str(failure)


async def test_a_dead_engine_is_the_engine_s_failure_and_not_a_wrong_answer() -> None:
    given = verification(golden(max_tokens=1000))
    async with starting_server(given, fake_tokens_per_second=5.0) as server:
        await eventually(lambda: server.client.in_flight == 1)
        server.engine.die()
        await eventually(lambda: bool(server.failures))
        assert type(server.failures[0]).__name__ == "EngineFailed"


DOCUMENT = b'{"timeoutSeconds": 7, "prompts": [{"prompt": "a", "maxTokens": 4, "expectAnyOf": ["b"]}]}'


@pytest.mark.parametrize(
    ("revision", "seconds"),
    [
        pytest.param("0123456789", None, id="proven"),
        pytest.param("new", 7.0, id="new"),
        pytest.param(None, 7.0, id="by hand"),
    ],
)
def test_a_proven_revision_has_no_limit_on_time(tmp_path: Path, revision: str | None, seconds: float | None) -> None:
    (tmp_path / "prompts.json").write_bytes(DOCUMENT)
    (tmp_path / "0123456789").touch()
    found = read_verification(tmp_path, revision)
    assert found.timeout_seconds == seconds
    assert found.prompts == (GoldenPrompt.model_validate({"prompt": "a", "maxTokens": 4, "expectAnyOf": ["b"]}),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "No such file", id="none"),
        pytest.param(b"{", "no such document", id="no JSON"),
        pytest.param(b'{"timeoutSeconds": 7, "prompts": []}', "no such document", id="no prompt"),
    ],
)
def test_prompts_that_cannot_be_read_are_a_bad_configuration(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "prompts.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"LLMSERVICE_VERIFICATION_DIR: .*prompts.json: {words}"):
        read_verification(tmp_path, None)
