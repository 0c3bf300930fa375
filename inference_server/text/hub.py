"""The tokenizer of a real model's folder, by the `tokenizers` library: no torch, no transformers, loads in 0.03 s."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers.decoders import DecodeStream

from inference_server.engine.interface import LoadFailure
from inference_server.text.chat_template import ChatTemplate
from inference_server.text.control_tokens import ControlTokens
from inference_server.text.token_bytes import TokenBytes
from inference_server.text.tokenizer import ChatTemplateError, Message


class HubTokenizer:
    """Reads `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` of a model's folder.

    Raises:
        LoadFailure: the folder holds no tokenizer that can be read.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            template = _chat_template(folder)
        except Exception as error:
            # The library raises the bare type for whatever is wrong in the file.
            raise LoadFailure(f"give the model a valid tokenizer.json: {folder}: {error}") from error
        added = self._tokenizer.get_added_tokens_decoder()
        self._control_tokens = ControlTokens(token.content for token in added.values() if token.special)
        # What a decoder pickles to is its part of the file; the file itself may have 30 MB.
        decoder = json.loads(self._tokenizer.decoder.__getstate__()) if self._tokenizer.decoder else None
        self._token_bytes = TokenBytes({token_id: token.content for token_id, token in added.items()}, decoder)
        self._template = template
        self.has_chat_template = template is not None

    def encode(self, text: str) -> list[int]:
        """Return the prompt tokens of plain text, with the special tokens the model begins with and no others."""
        first, *others = self._control_tokens.cut(text)
        ids: list[int] = self._tokenizer.encode(first).ids
        return ids + self._ids(others)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt tokens of a chat.

        Raises:
            ChatTemplateError: the model has no template, or it refuses the messages.
        """
        if self._template is None:
            raise ChatTemplateError("the model has no chat template")
        marked, mark = self._control_tokens.marked(messages)
        return self._ids(self._template.render(marked).split(mark))

    def _ids(self, pieces: Sequence[str]) -> list[int]:
        encodings = (self._tokenizer.encode(piece, add_special_tokens=False) for piece in pieces)
        return [token_id for encoding in encodings for token_id in encoding.ids]

    def decoder(self) -> HubDecoder:
        """Return a decoder for one new sequence."""
        return HubDecoder(self._tokenizer)

    def token_bytes(self, token_id: int) -> bytes:
        """Return what one token stands for in UTF-8, be it only part of a character."""
        return self._token_bytes.of(token_id, self._tokenizer.id_to_token(token_id))


class HubDecoder:
    """Decodes one sequence; the library holds a token back while its character is not whole."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._stream: Any = DecodeStream(skip_special_tokens=True)
        self._held: list[int] = []

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` completes."""
        text: str | None = self._stream.step(self._tokenizer, token_id)
        if text is None:
            self._held.append(token_id)
            return ""
        self._held.clear()
        return text

    def finish(self) -> str:
        """Return what was held back."""
        text: str = self._tokenizer.decode(self._held, skip_special_tokens=True)
        self._held.clear()
        return text


def _chat_template(folder: Path) -> ChatTemplate | None:
    config = _read_json(folder / "tokenizer_config.json")
    file = folder / "chat_template.jinja"
    source = file.read_text() if file.is_file() else config.get("chat_template")
    if isinstance(source, list):
        source = next((named["template"] for named in source if named["name"] == "default"), None)
    if source is None:
        return None
    tokens = {name: value for name, value in config.items() if name.endswith("_token")}
    contents = {name: value["content"] if isinstance(value, dict) else value for name, value in tokens.items()}
    return ChatTemplate(source, {name: value for name, value in contents.items() if isinstance(value, str)})


def _read_json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text())) if file.is_file() else {}
