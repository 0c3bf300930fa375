"""The fields that every generating route shares, with their bounds.

Every field is honoured, or refused with its name: a value that would change the answer is never accepted and
ignored. A field we do not know is refused too. A field that is null is one that was not given, as in OpenAI's API.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from inference_server.engine.interface import SamplingParams
from inference_server.web.ask import MAX_CHOICES

MaxTokens = Annotated[StrictInt, Field(ge=1, le=2**20)]
Temperature = Annotated[float, Field(ge=0, le=2, strict=True)]
TopP = Annotated[float, Field(gt=0, le=1, strict=True)]
Seed = Annotated[StrictInt, Field(ge=-(2**63), lt=2**64)]
Penalty = Annotated[float, Field(ge=-2, le=2, strict=True)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]
TokenId = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})$")]
"""A token's number as JSON writes it in a key."""
Bias = Annotated[float, Field(ge=-100, le=100, strict=True)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else [] if value is None else value


_StopSchema = StopString | Annotated[list[StopString], Field(max_length=16)] | None
Stop = Annotated[
    tuple[StopString, ...], Field(max_length=16), BeforeValidator(_as_list, json_schema_input_type=_StopSchema)
]


class StrictSchema(BaseModel):
    """A body, or a part of one, that holds known fields only."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamOptions(StrictSchema):
    """`include_usage`: one more chunk before the end, with the usage of the whole request."""

    include_usage: StrictBool = False


class OpenAIFields(StrictSchema):
    """What /v1/completions and /v1/chat/completions have in common.

    `ignore_eos` is vLLM's, for benchmarks: the completion goes on to `max_tokens`. `user` changes no answer, so it is
    taken and not used.
    """

    model: Annotated[str, Field(max_length=1024)]
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    n: Annotated[StrictInt, Field(ge=1, le=MAX_CHOICES)] = 1
    seed: Seed | None = None
    stop: Stop = ()
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: Annotated[
        dict[TokenId, Bias], Field(max_length=300, json_schema_extra={"additionalProperties": False})
    ] = {}
    ignore_eos: StrictBool = False
    stream: StrictBool = False
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=1024)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: given for name, given in value.items() if given is not None}
        return value

    @field_validator("stream_options")
    @classmethod
    def _usage_needs_stream(cls, value: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if value is not None and not info.data.get("stream"):
            raise ValueError("Input is only allowed when stream is true")
        return value

    def include_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, logprobs: int | None) -> SamplingParams:
        """Return the sampling of every choice; length and seed are filled in at admission."""
        return SamplingParams(
            max_tokens=1,
            temperature=self.temperature,
            top_p=self.top_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias={int(token_id): bias for token_id, bias in self.logit_bias.items()},
            ignore_eos=self.ignore_eos,
            logprobs=logprobs,
        )
