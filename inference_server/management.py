"""The management port: `/livez`, `/readyz`, `/metrics` and `/internal/v1/state`, for kubelet, monitoring and operator.

A bare ASGI application: the warm-up serves it too and needs no web framework for four fixed answers. It has no
authentication; the port is never part of a Service and closed by the NetworkPolicy.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import uvicorn

from inference_server.metrics import Metrics
from inference_server.state import ServerState

TEXT = b"text/plain; charset=utf-8"


class ManagementApp:
    """Answers the four paths from `state` and `metrics`."""

    def __init__(self, state: ServerState, metrics: Metrics) -> None:
        self._state = state
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status, content_type, body = self._answer(scope["path"])
        headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, path: str) -> tuple[int, bytes, bytes]:
        match path:
            case "/livez":
                return (200, TEXT, b"ok\n") if self._state.is_live() else (503, TEXT, self._why())
            case "/readyz":
                return (200, TEXT, b"ok\n") if self._state.unready_because() is None else (503, TEXT, self._why())
            case "/metrics":
                return 200, b"text/plain; version=1.0.0; charset=utf-8", self._metrics.text()
            case "/internal/v1/state":
                return 200, b"application/json", orjson.dumps(self._state.document())
        return 404, TEXT, b"not found\n"

    def _why(self) -> bytes:
        return f"{self._state.unready_because()}\n".encode()


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket: connections queue up from now on, even while modules are still being imported.

    Raises:
        OSError: the address is not ours or the port is taken.
    """
    listener = socket.create_server(
        (host, port),
        family=socket.AF_INET6 if ":" in host else socket.AF_INET,
        backlog=2048,
        dualstack_ipv6=host == "::",
    )
    listener.setblocking(False)
    return listener


class QuietServer(uvicorn.Server):
    """uvicorn without its signal handling: whoever runs this server decides when it ends, by `should_exit`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield


def management_server(state: ServerState, metrics: Metrics) -> QuietServer:
    """Return the management port's server, to be run with `serve(sockets=[...])`."""
    config = uvicorn.Config(
        ManagementApp(state, metrics), http="httptools", ws="none", lifespan="off", access_log=False, log_config=None
    )
    return QuietServer(config)


@contextlib.contextmanager
def in_background(state: ServerState, metrics: Metrics, host: str, port: int) -> Iterator[None]:
    """Serve the management port from a thread, for a program without an event loop (the warm-up).

    Raises:
        OSError: the port cannot be bound.
    """
    listener = bind(host, port)
    server = management_server(state, metrics)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=5)
