"""Row H16: a client that asks for a stream and never reads it holds neither its slot nor memory."""

from __future__ import annotations

import asyncio
import json
import socket

import uvicorn

from inference_server.management import QuietServer, bind
from inference_server.web.http_protocol import BoundedHttpProtocol
from tests.support.model_server import RunningServer, eventually, running_server

BODY = json.dumps({"model": "tiny", "prompt": "hello", "max_tokens": 500_000, "stream": True}).encode()
REQUEST = (
    b"POST /v1/completions HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
) % (len(BODY), BODY)


class Impatient(BoundedHttpProtocol):
    """The protocol as it is, but for the time it waits."""

    unread_deadline_seconds = 0.3


async def test_h16_a_client_that_never_reads_is_cut_off_and_its_slot_is_free() -> None:
    async with running_server(max_model_len=600_000) as server, asyncio.TaskGroup() as tasks:
        listener = _with_a_small_buffer(bind("127.0.0.1", 0))
        public = _public(server)
        tasks.create_task(public.serve(sockets=[listener]))
        client = _with_a_small_buffer(socket.create_connection(listener.getsockname()))
        with client:
            client.sendall(REQUEST)
            await eventually(lambda: server.client.load().running == 1)
            await eventually(lambda: server.client.in_flight == 0)
        public.should_exit = True


async def test_a_reader_who_is_slower_than_the_generation_does_not_hold_the_slot_until_it_has_read() -> None:
    body = BODY.replace(b"500000", b"20000")
    request = REQUEST.replace(b"length: %d" % len(BODY), b"length: %d\r\nconnection: close" % len(body))
    async with running_server(max_model_len=600_000) as server, asyncio.TaskGroup() as tasks:
        listener = _with_a_small_buffer(bind("127.0.0.1", 0))
        public = _public(server, BoundedHttpProtocol)
        tasks.create_task(public.serve(sockets=[listener]))
        client = _with_a_small_buffer(socket.create_connection(listener.getsockname()))
        client.sendall(request.replace(BODY, body))
        await eventually(lambda: server.client.load().running == 1)
        await eventually(lambda: server.client.in_flight == 0)
        reader, writer = await asyncio.open_connection(sock=client)
        answer = await reader.read()
        writer.close()
        public.should_exit = True
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert len(answer) > 50_000


async def test_a_client_that_reads_with_pauses_gets_its_whole_answer() -> None:
    body = BODY.replace(b"500000", b"3000")
    request = REQUEST.replace(b"length: %d" % len(BODY), b"length: %d\r\nconnection: close" % len(body))
    async with running_server(max_model_len=600_000) as server, asyncio.TaskGroup() as tasks:
        listener = _with_a_small_buffer(bind("127.0.0.1", 0))
        public = _public(server)
        tasks.create_task(public.serve(sockets=[listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname(), limit=1024)
        writer.write(request.replace(BODY, body))
        answer = b""
        while piece := await reader.read(16 * 1024):
            answer += piece
            await asyncio.sleep(0.002)
        writer.close()
        public.should_exit = True
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def _public(server: RunningServer, protocol: type[BoundedHttpProtocol] = Impatient) -> QuietServer:
    return QuietServer(uvicorn.Config(server.app, http=protocol, ws="none", lifespan="off", log_config=None))


def _with_a_small_buffer(end: socket.socket) -> socket.socket:
    """Let the kernel take little, so that what is unread stays in the server."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return end
