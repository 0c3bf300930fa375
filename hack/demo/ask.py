"""Ask a served model over HTTP, as curl would: the demo's questions, also used by the end-to-end tests."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any


class RequestError(RuntimeError):
    """The server answered with an error status; `status` and `body` say which."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"HTTP {status}: {body}")
        self.status = status
        self.body = body


def request(
    url: str, body: dict[str, Any] | None = None, *, key: str | None = None, timeout_seconds: float = 120
) -> Any:
    """GET `url`, or POST `body` to it; returns the open response.

    Raises:
        RequestError: the status was 400 or more.
    """
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        # The timeout bounds each read, so a stream may last longer than it.
        return urllib.request.urlopen(
            urllib.request.Request(url, data, headers),
            timeout=timeout_seconds,
        )
    except urllib.error.HTTPError as error:
        with error:
            raise RequestError(error.code, error.read().decode(errors="replace")) from error


def answer(url: str, body: dict[str, Any] | None = None, *, key: str | None = None) -> dict[str, Any]:
    """Return the JSON answer of one request."""
    with request(url, body, key=key) as response:
        found: dict[str, Any] = json.load(response)
        return found


def stream(url: str, body: dict[str, Any], *, key: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the JSON events of a streamed request until `[DONE]`.

    Raises:
        RequestError: the stream ended without `[DONE]`, or carried an error event.
    """
    with request(url, {**body, "stream": True}, key=key) as response:
        for line in response:
            if not line.startswith(b"data: "):
                continue
            data = line.removeprefix(b"data: ").strip()
            if data == b"[DONE]":
                return
            event = json.loads(data)
            if "error" in event:
                raise RequestError(response.status, data.decode())
            yield event
    raise RequestError(200, "the stream ended without [DONE]")
