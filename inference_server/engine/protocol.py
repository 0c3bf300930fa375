"""The messages between web process and engine process, and how they are framed.

Each frame is a length (4 bytes, big-endian) and one MessagePack document. The engine sends one message for a step or
for a few (`engine.outbox`), never one for each token. The connection is a socket pair that only these two processes
hold, so there is no name to find and no peer to check.
"""

from __future__ import annotations

import asyncio
import socket
import struct

import msgspec

from inference_server.engine.interface import (
    EngineConfig,
    GenerationRequest,
    ModelInfo,
    Progress,
    SequenceOutput,
    Started,
)

FRAME_LIMIT_BYTES = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Web to engine, first and once: what to load."""

    config: EngineConfig


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Web to engine: forget this sequence."""

    request_id: str


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Web to engine: answered between two steps, so that silence is a hang."""

    number: int


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """Engine to web: how far loading is."""

    progress: Progress


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """Engine to web: requests are welcome."""

    model: ModelInfo


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Engine to web: this process ends now, and why; `reason` is one of conditions.md."""

    reason: str
    message: str
    exit_code: int


class Step(msgspec.Struct, frozen=True, array_like=True):
    """What one step came to: how long it took, the tokens it generated, and the counts of `interface.StepOutput`."""

    seconds: float
    tokens: int
    prefill_tokens: int
    decode_tokens: int
    kv_tokens: int


class Stepped(msgspec.Struct, frozen=True, kw_only=True, tag="stepped"):
    """Engine to web: what the last steps did, with at most one output for each sequence.

    `started` are sequences whose prefill began in the last of them, at `began` on CLOCK_MONOTONIC, which all processes
    of a machine share.
    """

    outputs: list[SequenceOutput]
    started: list[Started]
    steps: list[Step]
    began: float


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """Engine to web: the answer to the ping of that number."""

    number: int


ToEngine = Load | GenerationRequest | Cancel | Ping
FromEngine = Loading | Loaded | Failed | Stepped | Pong

_encoder = msgspec.msgpack.Encoder()
_to_engine: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine)
_from_engine: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine)


def frame(message: ToEngine | FromEngine) -> bytes:
    """Return the bytes of `message` on the wire."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def receive(connection: socket.socket) -> ToEngine | None:
    """Read the next message in the engine process, blocking; None when the web process is gone."""
    head = _receive_exactly(connection, _LENGTH.size)
    body = _receive_exactly(connection, _LENGTH.unpack(head)[0]) if head else None
    return _to_engine.decode(body) if body else None


async def read(stream: asyncio.StreamReader) -> FromEngine | None:
    """Read the next message in the web process; None when the engine process is gone.

    Raises:
        ValueError: the length of the frame is absurd, so the stream is out of step.
    """
    try:
        length = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))[0]
        if length > FRAME_LIMIT_BYTES:
            raise ValueError(f"a frame of {length} bytes from the engine")
        return _from_engine.decode(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _receive_exactly(connection: socket.socket, count: int) -> bytes | None:
    received = bytearray()
    while len(received) < count:
        try:
            piece = connection.recv(min(count - len(received), 1 << 20))
        except OSError:
            return None
        if not piece:
            return None
        received += piece
    return bytes(received)
