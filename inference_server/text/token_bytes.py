"""The bytes of single tokens, for log-probabilities: a token may be part of a character, which no text can show.

The `tokenizers` library decodes sequences only, so this reads the two ways in which its files write bytes: GPT-2's
table of a printable character for each byte ("ByteLevel"), and SentencePiece's `<0x0A>` beside `▁` for a space.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"


class TokenBytes:
    """Turns tokens, as the vocabulary writes them, into bytes.

    `added` are the texts of added tokens, `decoder` is what tokenizer.json says under that name.
    """

    def __init__(self, added: Mapping[int, str], decoder: Any) -> None:
        self._added = dict(added)
        self._is_byte_level = "ByteLevel" in _types(decoder)

    def of(self, token_id: int, token: str | None) -> bytes:
        """Return the bytes of a token; b"" for an id that has none, which padded vocabularies have."""
        if token is None:
            return b""
        if token_id in self._added:
            return self._added[token_id].encode()
        if self._is_byte_level:
            return b"".join(_BYTES[c] if c in _BYTES else c.encode() for c in token)
        if (byte := _BYTE.fullmatch(token)) is not None:
            return bytes([int(byte[1], 16)])
        return token.replace(_SPACE, " ").encode()


def _types(decoder: Any) -> set[str]:
    """Return the types of a decoder and of those in it."""
    if not isinstance(decoder, Mapping):
        return set()
    return {str(decoder.get("type"))}.union(*(_types(inner) for inner in decoder.get("decoders") or ()))


def _printable() -> dict[str, bytes]:
    """Return GPT-2's table: printable Latin-1 stands for itself, every other byte for a character from U+0100 on."""
    as_they_are = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in as_they_are]
    table = {chr(byte): bytes([byte]) for byte in as_they_are}
    return table | {chr(0x100 + place): bytes([byte]) for place, byte in enumerate(others)}


_BYTES = _printable()
