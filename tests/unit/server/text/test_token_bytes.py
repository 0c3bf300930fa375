"""The bytes of single tokens, in the two ways in which tokenizer files write them."""

from __future__ import annotations

import pytest

from inference_server.text.token_bytes import TokenBytes

ADDED = {7: "<|im_end|>"}
BYTE_LEVEL = {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteLevel"}]}
SENTENCEPIECE = {"type": "Sequence", "decoders": [{"type": "Replace"}, {"type": "ByteFallback"}]}


@pytest.mark.parametrize(
    ("decoder", "token", "raw"),
    [
        pytest.param(BYTE_LEVEL, "Ġword", b" word", id="byte level: a space"),
        pytest.param(BYTE_LEVEL, "Ċ", b"\n", id="byte level: a line break"),
        pytest.param(BYTE_LEVEL, "âĨ", b"\xe2\x86", id="byte level: two thirds of an arrow"),
        pytest.param(SENTENCEPIECE, "▁word", b" word", id="sentencepiece: a space"),
        pytest.param(SENTENCEPIECE, "<0xE2>", b"\xe2", id="sentencepiece: one byte"),
        pytest.param(SENTENCEPIECE, "Ġ", "Ġ".encode(), id="sentencepiece: a letter of another table"),
        pytest.param(None, "word", b"word", id="no decoder"),
        pytest.param(BYTE_LEVEL, None, b"", id="an id without a token"),
    ],
)
def test_a_token_stands_for_bytes(decoder: object, token: str | None, raw: bytes) -> None:
    assert TokenBytes(ADDED, decoder).of(3, token) == raw


def test_an_added_token_is_its_own_text() -> None:
    assert TokenBytes({7: "<Ġ>"}, BYTE_LEVEL).of(7, "<Ġ>") == "<Ġ>".encode()
