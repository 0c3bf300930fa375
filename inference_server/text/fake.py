"""The fake model's tokenizer: one prompt token per byte of UTF-8, one completion token per word.

Ids 0 to 255 are bytes and the ids after them the words of `WORDS`, so that a completion can hold a character of
several tokens just as a real one does.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from inference_server.text.tokenizer import Message

_LIST = """
a and answer are at batch before cache cluster comes every first for from goes good has in is it keeps leaves light
long model more morning never new next node of on one open over pod queue quiet river run sea second sees slow small
so step stone still stream takes that the then token train tree two under wait warm water when wind with word
"""
WORDS = tuple(" " + word for word in _LIST.split())
FIRST_WORD_ID = 256
VOCABULARY_SIZE = FIRST_WORD_ID + len(WORDS)


class FakeTokenizer:
    """A tokenizer without a file."""

    def __init__(self, *, has_chat_template: bool = True) -> None:
        self.has_chat_template = has_chat_template

    def encode(self, text: str) -> list[int]:
        """Return the bytes of `text`."""
        return list(text.encode())

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the bytes of the messages, each as `role: content` on its line."""
        return self.encode("".join(f"{message['role']}: {message['content']}\n" for message in messages) + "assistant:")

    def decoder(self) -> FakeDecoder:
        """Return a decoder for one new sequence."""
        return FakeDecoder()

    def token_bytes(self, token_id: int) -> bytes:
        """Return the byte, or the word."""
        return bytes([token_id]) if token_id < FIRST_WORD_ID else WORDS[token_id - FIRST_WORD_ID].encode()


class FakeDecoder:
    """Decodes words and bytes."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` completes."""
        if token_id < FIRST_WORD_ID:
            return self._utf8.decode(bytes([token_id]))
        return self.finish() + WORDS[token_id - FIRST_WORD_ID]

    def finish(self) -> str:
        """Return what was held back."""
        text = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return text
