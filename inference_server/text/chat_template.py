"""Chat templates of models, rendered with bounds: a template comes with a model's files, so it is a stranger's code.

Jinja2's immutable sandbox keeps it from our objects. It does not bound time or size, which this environment does:
every call, attribute and item that a template touches looks at the clock, and multiplication, power and output are
limited in size. Whitespace rules, filters and globals are those of transformers, or templates render differently.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inference_server.text.tokenizer import ChatTemplateError, Message

LIMIT_SECONDS = 1.0
LIMIT_CHARACTERS = 8 * 1024 * 1024
TEMPLATE_LIMIT_CHARACTERS = 1024 * 1024


class ChatTemplate:
    """A compiled chat template.

    Raises:
        ValueError: the template is too large or is not valid Jinja.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        if len(source) > TEMPLATE_LIMIT_CHARACTERS:
            raise ValueError(f"the chat template has {len(source)} characters, {TEMPLATE_LIMIT_CHARACTERS} at most")
        self._special_tokens = dict(special_tokens)
        self._environment = _BoundedEnvironment()
        try:
            self._template = self._environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ValueError(f"the chat template is not valid: {error}") from error

    def render(self, messages: Sequence[Message]) -> str:
        """Return the prompt of `messages`, up to where the assistant's answer begins.

        Raises:
            ChatTemplateError: the template refuses the messages, or exceeds a bound.
        """
        self._environment.start_the_clock()
        pieces: list[str] = []
        length = 0
        variables = {**self._special_tokens, "messages": list(messages), "add_generation_prompt": True}
        try:
            for piece in self._template.generate(variables):
                length += len(piece)
                if length > LIMIT_CHARACTERS:
                    raise SecurityError(f"more than {LIMIT_CHARACTERS} characters")
                pieces.append(piece)
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise ChatTemplateError(f"the model's chat template refuses these messages: {error}") from error
        return "".join(pieces)


class _BoundedEnvironment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        # Renderings run in several threads at once, each with its own deadline.
        self._this_thread = threading.local()

    def start_the_clock(self) -> None:
        """Begin the time limit of the rendering in this thread."""
        self._this_thread.deadline = time.monotonic() + LIMIT_SECONDS

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Multiply within bounds: `'x' * 10 ** 10` is a gigabyte in one step."""
        if operator == "**" and (abs(left) > 10**6 or abs(right) > 16):
            raise SecurityError("a power too large")
        if operator == "*" and _size(left) * _size(right) > LIMIT_CHARACTERS:
            raise SecurityError("a product too large")
        return super().call_binop(context, operator, left, right)

    def call(self, *arguments: Any, **named: Any) -> Any:
        """Call within the time limit."""
        self._watch_the_clock()
        return super().call(*arguments, **named)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Look up within the time limit."""
        self._watch_the_clock()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: str | Any) -> Any:
        """Look up within the time limit."""
        self._watch_the_clock()
        return super().getitem(obj, argument)

    def _watch_the_clock(self) -> None:
        if time.monotonic() > self._this_thread.deadline:
            raise SecurityError(f"more than {LIMIT_SECONDS:g} s")


def _size(value: Any) -> int:
    return abs(value) if isinstance(value, int) else len(value) if hasattr(value, "__len__") else 1


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)
