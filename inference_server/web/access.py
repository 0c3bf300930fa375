"""The outermost ASGI layer: request id, one log event and the metrics of each request.

Pure ASGI, like every layer here: Starlette's BaseHTTPMiddleware would hide from the routes that a client has left.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference_server.metrics import Metrics
from inference_server.state import ServerState
from inference_server.web import errors
from inference_server.web.record import RequestRecord, new_request_id

ROUTES = frozenset(("/health", "/ws/generate", "/generate", "/v1/models", "/v1/completions", "/v1/chat/completions"))
CLIENT_CLOSED = 499
"""nginx's number for a client that left; it is in the log and the metrics, nobody is left to receive it."""
SWITCHING_PROTOCOLS = 101
TOO_MANY_REQUESTS = 429
STARTS = {
    "http": ("http.response.start",),
    "websocket": ("websocket.accept", "websocket.http.response.start"),
}
"""The messages that begin an answer."""
_HOST = re.compile(rb"[A-Za-z0-9._~%:\[\]-]+")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

logger = structlog.get_logger(__name__)


class Access:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, state: ServerState, metrics: Metrics) -> None:
        self._app = app
        self._state = state
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one WebSocket from its opening to its end."""
        if scope["type"] not in STARTS:
            return
        began = time.monotonic()
        record = RequestRecord(_request_id(scope))
        scope.setdefault("state", {})["record"] = record
        status = CLIENT_CLOSED

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] in STARTS[scope["type"]]:
                status = message.get("status", SWITCHING_PROTOCOLS)
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers["x-request-id"] = record.request_id
                if self._state.phase == "Draining" and status != SWITCHING_PROTOCOLS:
                    # The client's next request should go to a server that stays.
                    headers["connection"] = "close"
            await send(message)

        try:
            if any(name == b"host" and not _HOST.fullmatch(value) for name, value in scope["headers"]):
                record.error_code = "invalid_host"
                refusal = errors.invalid_request("The Host header is not valid.", code="invalid_host")
                await refusal.response(scope["path"])(scope, receive, send_marked)
                return
            await self._app(scope, receive, send_marked)
        except Exception:
            # The client has its 500 from the application, or its stream was cut; the id leads from there to here.
            logger.exception("request failed", request_id=record.request_id)
            record.error_code = "internal_error"
        finally:
            route = scope["path"] if scope["path"] in ROUTES else "other"
            report(self._metrics, record, scope.get("method", "GET"), route, status, time.monotonic() - began)


def report(metrics: Metrics, record: RequestRecord, method: str, route: str, status: int, seconds: float) -> None:
    """Count one answered request and log it; a generation on a WebSocket is one too."""
    metrics.request_answered(route, status, record, seconds)
    # Under overload nine of ten requests are refused, and a line for each would cost more than the refusal.
    is_quiet = route == "/health" or status == TOO_MANY_REQUESTS
    if is_quiet and not logger.isEnabledFor(logging.DEBUG):
        return
    facts: dict[str, Any] = {
        "request_id": record.request_id,
        "method": method,
        "route": route,
        "status": status,
        "seconds": round(seconds, 4),
        "tenant": record.tenant,
        "stream": record.stream or None,
        "prompt_tokens": record.prompt_tokens,
        "cached_tokens": record.cached_tokens,
        "completion_tokens": record.completion_tokens,
        "first_token_seconds": record.first_token_seconds and round(record.first_token_seconds, 4),
        "finish_reason": record.finish_reason,
        "error": record.error_code,
    }
    level = logger.debug if is_quiet else logger.info
    level("request", **{name: value for name, value in facts.items() if value is not None})


def _request_id(scope: Scope) -> str:
    """Return the caller's id where it is harmless in a log line, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode("ascii"))
    return new_request_id()
