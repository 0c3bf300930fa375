"""The fields that every generating route shares, with their bounds.

Every field is honoured, or refused with its name: a value that would change the answer is never accepted and
ignored. A field we do not know is refused too. Fields whose only allowed value is OpenAI's default are there because
many clients send that default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, model_validator

MaxTokens = Annotated[StrictInt, Field(ge=1, le=2**20)]
Temperature = Annotated[float, Field(ge=0, le=2, strict=True)]
TopP = Annotated[float, Field(gt=0, le=1, strict=True)]
Seed = Annotated[StrictInt, Field(ge=-(2**63), lt=2**64)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else [] if value is None else value


Stop = Annotated[tuple[StopString, ...], Field(max_length=16), BeforeValidator(_as_list)]


class StrictSchema(BaseModel):
    """A body, or a part of one, that holds known fields only."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamOptions(StrictSchema):
    """`include_usage`: one more chunk before the end, with the usage of the whole request."""

    include_usage: bool = False


class OpenAIFields(StrictSchema):
    """What /v1/completions and /v1/chat/completions have in common."""

    model: Annotated[str, Field(max_length=1024)]
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: Stop = ()
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    """Changes no answer, so it is taken and not used."""
    n: Literal[1] | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _usage_needs_stream(self) -> OpenAIFields:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        return self

    def include_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage
