"""The public application: routes in FastAPI, wrapped in the ASGI layers for keys and for accounts of each request."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import orjson
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from inference_server.metrics import Metrics
from inference_server.state import ServerState
from inference_server.web import errors
from inference_server.web.access import CLIENT_CLOSED, Access
from inference_server.web.admission import ModelServer, deadline_of
from inference_server.web.answer import CompletionResponse, Format
from inference_server.web.ask import Ask
from inference_server.web.auth import ApiKeys, Authentication
from inference_server.web.body import Schema, parse_body
from inference_server.web.chat import ChatCompletionRequest, ChatFormat
from inference_server.web.completions import CompletionFormat, CompletionRequest
from inference_server.web.generate import GenerateFormat, GenerateRequest
from inference_server.web.record import record_of
from inference_server.web.websocket import GenerateSocket

Handler = Callable[[Request], Awaitable[Response]]


def create_app(server: ModelServer, metrics: Metrics, keys: ApiKeys | None) -> ASGIApp:
    """Return the application for `server`; without `keys` it is open."""
    # The schema and its pages would be one more thing to authenticate; docs/ has the reference.
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(errors.APIError, _api_error)
    app.add_exception_handler(ClientDisconnect, _client_disconnect)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _internal_error)
    app.add_route("/health", _health(server.state), methods=["GET"])
    app.add_route("/v1/models", _models(server), methods=["GET"])
    app.add_route("/v1/models/{model:path}", _model(server), methods=["GET"])
    app.add_route("/generate", _generate(server), methods=["POST"])
    app.add_route("/v1/completions", _completions(server), methods=["POST"])
    app.add_route("/v1/chat/completions", _chat_completions(server), methods=["POST"])
    both = _ByScope(app, GenerateSocket(server, metrics))
    guarded: ASGIApp = Authentication(both, keys) if keys is not None else both
    return Access(guarded, server.state, metrics)


class _ByScope:
    """Sends requests one way and WebSockets the other."""

    def __init__(self, http: ASGIApp, websocket: ASGIApp) -> None:
        self._http = http
        self._websocket = websocket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._websocket if scope["type"] == "websocket" else self._http)(scope, receive, send)


def _health(state: ServerState) -> Handler:
    async def health(request: Request) -> Response:
        """The original health check: 200 while requests are welcome."""
        if state.unready_because() is None:
            return _json({"status": "healthy"})
        return _json({"status": state.phase.lower()}, status=503, headers={"Retry-After": "1"})

    return health


def _models(server: ModelServer) -> Handler:
    created = int(time.time())

    async def models(request: Request) -> Response:
        """The one model served here."""
        server.ensure_ready()
        return _json({"object": "list", "data": [_model_card(server.model_id, created)]})

    return models


def _model(server: ModelServer) -> Handler:
    created = int(time.time())

    async def model(request: Request) -> Response:
        """One model by name."""
        server.ensure_ready()
        server.ensure_model(request.path_params["model"])
        return _json(_model_card(server.model_id, created))

    return model


def _model_card(model_id: str, created: int) -> dict[str, object]:
    return {"id": model_id, "object": "model", "created": created, "owned_by": "llmservice"}


def _generate(server: ModelServer) -> Handler:
    async def generate(request: Request) -> Response:
        """The original route."""
        deadline, body = await _admitted(server, request, GenerateRequest)
        return await _answer(server, request, body.ask(), GenerateFormat(server.model_id), body.stream, deadline)

    return generate


def _completions(server: ModelServer) -> Handler:
    async def completions(request: Request) -> Response:
        """OpenAI's text completion."""
        deadline, body = await _admitted(server, request, CompletionRequest)
        server.ensure_model(body.model)
        request_id = record_of(request.scope).request_id
        wire_format = CompletionFormat(request_id, server.model_id, server.loaded_tokenizer, body.include_usage())
        return await _answer(server, request, body.ask(), wire_format, body.stream, deadline)

    return completions


def _chat_completions(server: ModelServer) -> Handler:
    async def chat_completions(request: Request) -> Response:
        """OpenAI's chat completion."""
        deadline, body = await _admitted(server, request, ChatCompletionRequest)
        server.ensure_model(body.model)
        request_id = record_of(request.scope).request_id
        wire_format = ChatFormat(request_id, server.model_id, server.loaded_tokenizer, body.include_usage())
        return await _answer(server, request, body.ask(), wire_format, body.stream, deadline)

    return chat_completions


async def _admitted(server: ModelServer, request: Request, schema: type[Schema]) -> tuple[float | None, Schema]:
    """Return deadline and body of a request that there is room for; a full server reads no body."""
    server.let_in()
    deadline = deadline_of(request.scope)
    server.ensure_room(deadline)
    return deadline, await parse_body(request.scope, request.receive, schema)


async def _answer(
    server: ModelServer, request: Request, ask: Ask, wire_format: Format, stream: bool, deadline: float | None
) -> Response:
    if stream and request.scope["http_version"] == "1.0":
        # It has no chunks, so its client could not tell a stream that ended from one that broke.
        raise errors.invalid_request("A stream needs HTTP/1.1.", param="stream", code="unsupported_value")
    record = record_of(request.scope)
    record.stream = stream
    return CompletionResponse(await server.complete(ask, record, deadline), wire_format, stream)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.APIError)
    record_of(request.scope).error_code = error.code
    return error.response(request.scope["path"])


async def _client_disconnect(request: Request, error: Exception) -> Response:
    """Nobody receives this; its status is what the log and the metrics show."""
    record_of(request.scope).finish_reason = "cancelled"
    return Response(status_code=CLIENT_CLOSED)


async def _internal_error(request: Request, error: Exception) -> Response:
    return errors.internal_error().response(request.scope["path"])


async def _http_exception(request: Request, error: Exception) -> Response:
    """Answer unknown paths and methods in our own error shape."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    message = {404: "There is no such path.", 405: "This path does not take this method."}.get(
        error.status_code, str(error.detail)
    )
    headers = dict(error.headers or {})
    return errors.invalid_request(message, code=code, status=error.status_code, headers=headers).response(
        request.scope["path"]
    )


def _json(content: dict[str, object], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")
