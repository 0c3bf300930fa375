"""Golden prompts: what a model must answer before its server is ready.

The operator mounts a folder with `prompts.json` and, for each revision that was proven once, an empty file of its name.
A proven revision answers the same prompts without a limit on time, so that load cannot keep its restarted pods away.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Never

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from inference_server.engine.interface import SamplingParams
from inference_server.settings import ConfigurationError
from inference_server.state import PhaseProgress, ServerState
from inference_server.web import errors
from inference_server.web.admission import ModelServer
from inference_server.web.ask import Ask, Chat
from inference_server.web.record import RequestRecord

PROMPTS_FILE = "prompts.json"
EXIT_CODE = 65
"""EX_DATAERR of sysexits.h: the server works, what it says is wrong."""
_SPEC_PATH = "spec.rollout.verification"
_INTERRUPTED = ("worker_lost", "stream_interrupted")

logger = structlog.get_logger(__name__)


class VerificationFailed(Exception):  # noqa: N818 - what the condition calls it
    """The model does not answer as it should; `reason` is one of conditions.md. The text holds no prompt and no
    answer.
    """

    exit_code = EXIT_CODE

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class GoldenPrompt(_Document):
    """One prompt; without expected texts every answer will do that is not empty."""

    prompt: Annotated[str, Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    expect_any_of: tuple[str, ...] = ()


class Verification(_Document):
    """The content of `prompts.json`."""

    timeout_seconds: Annotated[float, Field(gt=0)] | None
    """For all prompts together; None for a proven revision."""
    prompts: Annotated[tuple[GoldenPrompt, ...], Field(min_length=1)]


def read_verification(folder: Path, revision: str | None) -> Verification:
    """Return the prompts in `folder`, as they apply to `revision`.

    Raises:
        ConfigurationError: there are none, or they are no such document.
    """
    file = folder / PROMPTS_FILE
    try:
        verification = Verification.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        kind = error.strerror if isinstance(error, OSError) else "no such document"
        raise ConfigurationError(f"LLMSERVICE_VERIFICATION_DIR: {file}: {kind}") from None
    is_proven = revision is not None and (folder / revision).is_file()
    return verification.model_copy(update={"timeout_seconds": None}) if is_proven else verification


async def verify(verification: Verification, server: ModelServer) -> None:
    """Put every prompt to the model, one after the other and greedily: each answer is as if alone.

    Raises:
        VerificationFailed: an answer is not what was expected, or not all came in time.
    """
    began, total = time.monotonic(), len(verification.prompts)
    try:
        async with asyncio.timeout(verification.timeout_seconds):
            for number, prompt in enumerate(verification.prompts, start=1):
                _show(server.state, number - 1, total)
                _check(number, prompt, await _answer(number, prompt, server))
    except TimeoutError:
        raise VerificationFailed(
            "PromptTimedOut",
            f"Raise {_SPEC_PATH}.timeoutSeconds, or look why the model is slow: "
            f"the prompts were not all answered within {verification.timeout_seconds:g} s",
        ) from None
    logger.info("verified", prompts=total, seconds=round(time.monotonic() - began, 3))


def _show(state: ServerState, done: int, total: int) -> None:
    if state.phase in ("Loading", "Verifying"):
        state.enter("Verifying", PhaseProgress(done, total, "prompts"))


async def _answer(number: int, prompt: GoldenPrompt, server: ModelServer) -> str:
    record = RequestRecord(f"verification-{number}")
    try:
        completion = await server.complete(_ask(prompt, is_chat=server.loaded_tokenizer.has_chat_template), record)
        try:
            (choice,) = await completion.whole()
        finally:
            completion.close()
    except errors.APIError as error:
        if error.code in _INTERRUPTED:
            await _wait_for_the_end()
        raise VerificationFailed(
            "PromptFailed", f"Look at prompt {number} of {_SPEC_PATH}.prompts: it cannot be answered ({error.code})"
        ) from error
    return choice.text


async def _wait_for_the_end() -> Never:
    """Leave the word to who has interrupted the engine: it ends this task as well."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nobody sets this future")


def _ask(prompt: GoldenPrompt, *, is_chat: bool) -> Ask:
    return Ask(
        prompts=Chat([{"role": "user", "content": prompt.prompt}]) if is_chat else (prompt.prompt,),
        prompt_param="prompt",
        max_tokens=prompt.max_tokens,
        max_tokens_param="max_tokens",
        sampling=SamplingParams(max_tokens=1, temperature=0.0),
    )


def _check(number: int, prompt: GoldenPrompt, answer: str) -> None:
    where = f"Look at prompt {number} of {_SPEC_PATH}.prompts, and at the model"
    if not answer.strip():
        raise VerificationFailed("PromptFailed", f"{where}: its answer is empty")
    if prompt.expect_any_of and not any(text in answer for text in prompt.expect_any_of):
        raise VerificationFailed("PromptFailed", f"{where}: its answer has none of the texts in expectAnyOf")
