"""What is known about one request when it has been answered: the source of its log event and its metrics.

Light: the warm-up counts metrics too, and has no web framework.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope


@dataclass
class RequestRecord:
    """Filled in on the way; None is what this request never came to. Holds no text of prompt or answer."""

    request_id: str
    tenant: str | None = None
    stream: bool = False
    choices: int = 1
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    queue_seconds: float | None = None
    first_token_seconds: float | None = None
    decode_seconds: float | None = None
    finish_reason: str | None = None
    error_code: str | None = None


def new_request_id() -> str:
    """Return an id for a request that brought none."""
    return secrets.token_hex(12)


def record_of(scope: Scope) -> RequestRecord:
    """Return the record that `web.access` has put into the scope."""
    record = scope["state"]["record"]
    assert isinstance(record, RequestRecord)
    return record
