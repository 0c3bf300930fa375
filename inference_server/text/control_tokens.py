"""Control tokens in what people write stay text: nobody opens a role or ends a turn by writing its token out.

A tokenizer turns the letters `<|im_end|>` into the token of that name, wherever they stand. Here they are cut in two
before it sees them, so each half is ordinary text. `tokenizers` has a switch for that (`encode_special_tokens`), but it
is a whole tokenizer's and not a part of a text's, and a chat needs both: the tokens of its template are meant.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence

from inference_server.text.tokenizer import Message


class ControlTokens:
    """The control tokens of one tokenizer, by their text."""

    def __init__(self, tokens: Iterable[str]) -> None:
        longer = {token for token in tokens if len(token) > 1}
        # A lookahead, so that of two that overlap both are found.
        self._begins = re.compile(f"(?={_any_of(longer)})" if longer else r"(?!)")

    def cut(self, text: str) -> list[str]:
        """Return `text` in pieces none of which holds a control token: one piece where there is none."""
        cuts = [match.start() + 1 for match in self._begins.finditer(text)]
        return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    def marked(self, messages: Sequence[Message]) -> tuple[list[Message], str]:
        """Return `messages` with a mark at each cut of their contents, and the mark: a template renders text only.

        The mark is drawn anew each time, so that nobody can write it; digits, so that no filter changes it.
        """
        mark = str(secrets.randbits(128))
        return [{**message, "content": mark.join(self.cut(message["content"]))} for message in messages], mark


def _any_of(tokens: Iterable[str]) -> str:
    """Return a pattern that matches where one of `tokens` begins, as a tree of their characters.

    Families have thousands of them, and a long prompt of nothing but `<` must not try each at every place.
    """
    rests: dict[str, set[str]] = {}
    for token in tokens:
        if not token:
            return ""
        rests.setdefault(token[0], set()).add(token[1:])
    branches = [re.escape(character) + _any_of(rest) for character, rest in sorted(rests.items())]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"
