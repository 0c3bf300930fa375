"""spec.rollout.verification: prompts that a new revision must answer before a replica of it gets requests."""

from typing import Annotated, Final

from pydantic import Field

from llmservice_operator.schema.references import ATOMIC_LIST, Int32
from llmservice_operator.schema.rules import Rule, Structure

MOST_CHARACTERS: Final = 65536
"""Of all prompts and expected texts together: they go into a ConfigMap, which may have 1 MiB, and twice into each
revision that is kept. A character may take six bytes there."""

ExpectedText = Annotated[str, Field(min_length=1, max_length=512)]


class GoldenPrompt(Structure):
    """One prompt, and what its answer must contain."""

    prompt: Annotated[str, Field(min_length=1, max_length=8192)] = Field(
        description="What the model is asked: as a user's message where the model has a chat template, else as a text "
        "to go on with. It is answered greedily, at temperature 0. Example: What is the capital of France?",
    )
    max_tokens: Annotated[Int32, Field(ge=1, le=4096)] = Field(
        64,
        description="Tokens of the answer at most. Default: 64. Example: 16.",
    )
    expect_any_of: Annotated[tuple[ExpectedText, ...], Field(max_length=16)] = Field(
        (),
        description="Texts of which the answer must contain at least one, with upper and lower case as they are. "
        "Default: any answer will do that is not empty. Example: [Paris].",
        json_schema_extra=ATOMIC_LIST,
    )


def _characters(prompt: GoldenPrompt) -> int:
    return len(prompt.prompt) + sum(map(len, prompt.expect_any_of))


class Verification(Structure):
    """Prompts that every new replica answers before it is ready. A revision that answers them wrongly or too slowly is
    taken back."""

    rules = (
        Rule(
            "self.prompts.map(p, size(p.prompt) + "
            "(has(p.expectAnyOf) ? p.expectAnyOf.map(text, size(text)).sum() : 0)).sum() "
            f"<= {MOST_CHARACTERS}",
            f"shorten the prompts: with the texts they expect they may have {MOST_CHARACTERS} characters together",
            holds=lambda self: sum(map(_characters, self.prompts)) <= MOST_CHARACTERS,
            field_path=".prompts",
        ),
    )

    timeout_seconds: Annotated[Int32, Field(ge=1, le=3600)] = Field(
        120,
        description="Seconds that all prompts together may take once the model is loaded. A replica of a revision "
        "that was good once has no limit. Default: 120. Example: 30.",
    )
    prompts: Annotated[tuple[GoldenPrompt, ...], Field(min_length=1, max_length=16)] = Field(
        description="The prompts, put one after the other. Example: [{prompt: What is the capital of France?, "
        "expectAnyOf: [Paris]}].",
        json_schema_extra=ATOMIC_LIST,
    )
