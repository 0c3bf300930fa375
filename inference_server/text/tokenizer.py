"""What the web process needs from a tokenizer; `hub.HubTokenizer` and `fake.FakeTokenizer` are the two there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypedDict


class Message(TypedDict):
    """One message of a chat."""

    role: str
    content: str


class ChatTemplateError(Exception):
    """The model's chat template refuses these messages; the text is the template's own and goes to the client."""


class Decoder(Protocol):
    """Turns the tokens of one sequence into text as they come, never splitting a character."""

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` completes; "" while a character is still open."""
        ...

    def finish(self) -> str:
        """Return what was held back, with U+FFFD for a character that never became whole."""
        ...


class Tokenizer(Protocol):
    """A model's tokenizer and chat template. `encode…` may take long for long text: call them off the event loop."""

    has_chat_template: bool

    def encode(self, text: str) -> list[int]:
        """Return the prompt tokens of plain text, with the special tokens the model begins with."""
        ...

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt tokens of a chat, up to where the assistant's answer begins.

        Raises:
            ChatTemplateError: the template refuses the messages.
        """
        ...

    def decoder(self) -> Decoder:
        """Return a decoder for one new sequence."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return what one token stands for in UTF-8, be it only part of a character."""
        ...
