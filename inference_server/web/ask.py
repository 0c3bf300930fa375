"""What a route wants generated, in the words that all routes share; made by the bodies, read by `web.admission`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference_server.engine.interface import SamplingParams
from inference_server.text.tokenizer import Message

MAX_CHOICES = 16
_GOLDEN = 0x9E3779B97F4A7C15
_UNSIGNED = 2**64 - 1


@dataclass(frozen=True)
class Ask:
    """`prompts` are texts or token ids, or one chat; each is answered `n` times.

    `prompt_param` and `max_tokens_param` are what errors name. `max_tokens` None is the server's default, cut to what
    the context leaves; 0 asks for the prompt alone, which only `echo` may. `sampling` holds all the rest of the
    sampling; its `max_tokens` and `seed` are filled in for each sequence.
    """

    prompts: Sequence[str | Sequence[int]] | Chat
    prompt_param: str
    max_tokens: int | None
    max_tokens_param: str
    sampling: SamplingParams
    seed: int | None = None
    stop: Sequence[str] = ()
    n: int = 1
    echo: bool = False


@dataclass(frozen=True)
class Chat:
    """The messages of one chat."""

    messages: Sequence[Message]


def choice_seed(seed: int | None, choice: int) -> int | None:
    """Return the seed of one of several choices, unsigned: the first has the request's own.

    The others are far from it and from each other (steps of the golden ratio), so that choice 1 of seed 7 is not
    choice 0 of seed 8.
    """
    return None if seed is None else (seed + choice * _GOLDEN) & _UNSIGNED
