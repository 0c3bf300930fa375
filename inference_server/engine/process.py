"""The engine process: loads the model, then steps while there is work, talking to the web process over one socket.

One thread drives the engine; a second one only reads the socket, so that commands queue up while a step runs and a
web process that dies is noticed in the middle of a load.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable

import structlog

from inference_server import logging
from inference_server.engine import protocol
from inference_server.engine.interface import Engine, EngineConfig, GenerationRequest, LoadFailure
from inference_server.engine.outbox import Outbox

INTERNAL_ERROR = 70

logger = structlog.get_logger(__name__)

Inbox = queue.SimpleQueue[protocol.ToEngine | None]


def run(connection: socket.socket) -> int:
    """Be the engine process until the web process at the other end of `connection` goes; returns the exit code."""
    # The web process decides when this one ends: on SIGTERM it drains first, and Ctrl-C reaches both at once.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = protocol.receive(connection)
    if not isinstance(first, protocol.Load):
        return 0
    logging.configure(first.config.log_format, first.config.log_level)
    # A step or a load may last minutes, and when the web process has gone there is nobody to finish it for.
    return serve(create(first.config), connection, when_alone=lambda: os._exit(0))


def create(config: EngineConfig) -> Engine:
    """Return the engine that `config` names, importing its module only now: the fake never loads torch."""
    if config.engine == "fake":
        from inference_server.engine.fake import FakeEngine

        return FakeEngine(config)
    from inference_server.engine.model_engine import ModelEngine

    return ModelEngine(config)


def serve(engine: Engine, connection: socket.socket, when_alone: Callable[[], None]) -> int:
    """Load and drive `engine` for the web process at the other end; returns the exit code.

    `when_alone` is called in another thread as soon as the web process has gone; the loop itself ends at its next
    command.
    """
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=_read_commands, args=(connection, inbox, when_alone), daemon=True).start()
    try:
        model = engine.load(lambda progress: _send(connection, protocol.Loading(progress)))
        _send(connection, protocol.Loaded(model))
        _drive(engine, connection, inbox)
    except LoadFailure as failure:
        logger.warning("model not loaded", reason=failure.reason, error=str(failure))
        _send(connection, protocol.Failed(failure.reason, str(failure), failure.exit_code))
        return failure.exit_code
    except (BrokenPipeError, ConnectionResetError):
        return 0
    except Exception as error:
        logger.exception("engine died")
        message = f"{type(error).__name__}: {error}".splitlines()[0][:500]
        _send(connection, protocol.Failed("EngineFailed", f"the engine died: {message}", INTERNAL_ERROR))
        return INTERNAL_ERROR
    return 0


def _drive(engine: Engine, connection: socket.socket, inbox: Inbox) -> None:
    outbox = Outbox(lambda stepped: _send(connection, stepped))
    while True:
        # What has arrived by now, all of it but no more: a flood of commands never holds up the step.
        arrived = inbox.qsize()
        while arrived > 0 or not engine.has_work():
            if arrived <= 0:
                outbox.flush()
            if (command := inbox.get()) is None:
                return
            _obey(command, engine, outbox, connection)
            arrived -= 1
        began = time.monotonic()
        outbox.stepped(engine.step(), began)


def _obey(command: protocol.ToEngine, engine: Engine, outbox: Outbox, connection: socket.socket) -> None:
    match command:
        case GenerationRequest():
            engine.add(command)
            outbox.expect(command)
        case protocol.Cancel(request_id):
            engine.cancel(request_id)
            outbox.forget(request_id)
        case protocol.Ping(number):
            _send(connection, protocol.Pong(number))
        case protocol.Load():
            raise ValueError("a second load command")


def _read_commands(connection: socket.socket, inbox: Inbox, when_alone: Callable[[], None]) -> None:
    while (command := protocol.receive(connection)) is not None:
        inbox.put(command)
    inbox.put(None)
    when_alone()


def _send(connection: socket.socket, message: protocol.FromEngine) -> None:
    connection.sendall(protocol.frame(message))
