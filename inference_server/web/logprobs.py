"""Log-probabilities as OpenAI's two routes write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference_server.text.tokenizer import Tokenizer
from inference_server.web.choice import Entry


def of_completion(entries: Sequence[Entry], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return /v1/completions' four parallel lists; a part of a character is written `bytes:\\xe2`, as OpenAI does.

    `top_logprobs` holds the token itself too, where it is not among the most likely ones.
    """
    return {
        "tokens": [_name(entry.token_id, tokenizer) for entry in entries],
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": [_top(entry, tokenizer) for entry in entries],
        "text_offset": [entry.offset for entry in entries],
    }


def of_chat(entries: Sequence[Entry], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return /v1/chat/completions' list of tokens, each with its bytes and the most likely ones at its place."""
    content = [
        {
            **_token(entry.token_id, entry.logprob, tokenizer),
            "top_logprobs": [_token(token_id, logprob, tokenizer) for token_id, logprob in entry.top],
        }
        for entry in entries
    ]
    return {"content": content, "refusal": None}


def _top(entry: Entry, tokenizer: Tokenizer) -> dict[str, float] | None:
    if entry.logprob is None:
        return None
    # Backwards, so that of two tokens of one name the likelier stands.
    top = {_name(token_id, tokenizer): logprob for token_id, logprob in reversed(entry.top)}
    likeliest_first = dict(reversed(top.items()))
    name = _name(entry.token_id, tokenizer)
    return likeliest_first if name in likeliest_first else {**likeliest_first, name: entry.logprob}


def _token(token_id: int, logprob: float | None, tokenizer: Tokenizer) -> dict[str, Any]:
    raw = tokenizer.token_bytes(token_id)
    return {"token": raw.decode(errors="replace"), "logprob": logprob, "bytes": list(raw)}


def _name(token_id: int, tokenizer: Tokenizer) -> str:
    raw = tokenizer.token_bytes(token_id)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
