"""Errors as clients see them: one exception type, two body shapes.

The OpenAI routes answer `{"error": {message, type, param, code}}`; `/generate` keeps FastAPI's `detail`, as the
original had it. No text of an exception that is not ours ever reaches a client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import Response

GENERATE_PATH = "/generate"


class APIError(Exception):
    """An answer other than 200; raised anywhere below a route and turned into a response in one place."""

    def __init__(
        self,
        status: int,
        error_type: str,
        code: str | None,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        detail: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.code = code
        self.message = message
        self.param = param
        self.headers = dict(headers or {})
        self.detail = detail
        """FastAPI's list of validation errors, for `/generate`."""

    def body(self) -> dict[str, Any]:
        """Return the OpenAI error body."""
        error = {"message": self.message, "type": self.error_type, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self, path: str) -> Response:
        """Return the answer for a request to `path`."""
        if path == GENERATE_PATH:
            status = 422 if self.detail is not None else self.status
            content: dict[str, Any] = {"detail": self.detail if self.detail is not None else self.message}
        else:
            status, content = self.status, self.body()
        return Response(orjson.dumps(content), status, self.headers, "application/json")


def invalid_request(
    message: str, *, param: str | None = None, code: str | None = None, status: int = 400, **more: Any
) -> APIError:
    """The client's request is wrong, and sending it again will not help."""
    return APIError(status, "invalid_request_error", code, message, param=param, **more)


def context_length_exceeded(limit: int, prompt_tokens: int, completion_tokens: int, param: str) -> APIError:
    """Prompt and completion do not fit into the model's context; names both counts, as OpenAI's message does."""
    message = (
        f"This model's maximum context length is {limit} tokens. However, you requested "
        f"{prompt_tokens + completion_tokens} tokens ({prompt_tokens} in the prompt, {completion_tokens} in the "
        "completion). Please reduce the length of the prompt or the completion."
    )
    return invalid_request(message, param=param, code="context_length_exceeded")


def model_not_found(model: str, available: str) -> APIError:
    """The model's name is not the one served here."""
    shown = model if len(model) <= 100 else model[:100] + "…"
    message = f"The model {shown!r} does not exist. Available: {available!r}."
    return invalid_request(message, param="model", code="model_not_found", status=404)


def unauthenticated() -> APIError:
    """No key, or not one of ours; which of the two is nobody's business."""
    return APIError(
        401,
        "authentication_error",
        "invalid_api_key",
        "Give a valid API key in the Authorization header: Bearer <key>.",
        headers={"WWW-Authenticate": "Bearer", "Connection": "close"},
    )


def queue_full(retry_after_seconds: int) -> APIError:
    """There is capacity, but others are before you."""
    return APIError(
        429,
        "rate_limit_error",
        "queue_full",
        f"The server's queue is full. Try again in {retry_after_seconds} s.",
        headers={"Retry-After": str(retry_after_seconds), "x-llm-drop-reason": "queue_full"},
    )


def deadline_unreachable(retry_after_seconds: int) -> APIError:
    """The line is longer than the client's deadline, so waiting would be for nothing."""
    headers = {"Retry-After": str(retry_after_seconds), "x-llm-drop-reason": "deadline"}
    message = "The server's queue is longer than the deadline of this request."
    return APIError(429, "rate_limit_error", "deadline_unreachable", message, headers=headers)


def not_ready(code: str, message: str, retry_after_seconds: int, drop_reason: str) -> APIError:
    """There is no capacity here now."""
    headers = {"Retry-After": str(retry_after_seconds), "x-llm-drop-reason": drop_reason}
    return APIError(503, "service_unavailable_error", code, message, headers=headers)


def engine_failure(code: str, message: str) -> APIError:
    """The engine could not finish this request; `code` is a SequenceError's, or `worker_lost`."""
    if code == "out_of_memory":
        return APIError(503, "service_unavailable_error", code, message, headers={"Retry-After": "1"})
    return APIError(500, "server_error", code, message)


def interrupted(code: str, message: str) -> APIError:
    """Generation was cut off: by the request's own deadline, or where it would go through elsewhere or later."""
    if code == "deadline_exceeded":
        # The official client repeats a 408 by itself, and this one was late once already.
        return APIError(408, "timeout_error", code, message, headers={"x-should-retry": "false"})
    return APIError(503, "server_error", code, message, headers={"Retry-After": "1"})


def internal_error() -> APIError:
    """A bug of ours; its traceback is in the log under the request's id."""
    return APIError(500, "server_error", "internal_error", "The server had an error while processing your request.")
