"""A proxy between the operator and the API server of a control plane, in which the API can be played worse than it is.

    async with api_proxy(plane, faults) as proxy:
        ...  # run an operator with proxy.kubeconfig

It forwards every request as administrator and keeps what was asked and written. `Faults` may answer in place of the API
server, and stand between a watch's events and whoever watches.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
from aiohttp import web

from llmservice_operator import names
from llmservice_operator.cluster.client import USER_AGENT
from llmservice_operator.cluster.resources import CHILDREN, LLMSERVICES
from tests.support.controlplane import ControlPlane
from tests.support.written import Written

Manifest = dict[str, Any]

WATCHED = tuple(resource.plural for resource in (LLMSERVICES, *CHILDREN))
"""What the operator lists and watches."""
LONGEST_LINE_BYTES = 4 * 2**20
_PASSED_ON = ("Content-Type", "Accept", "User-Agent")


@dataclass(frozen=True)
class Call:
    """One request, in the words of an audit log; `resource` is the plural."""

    verb: str
    resource: str
    name: str = ""
    subresource: str = ""
    is_operators: bool = True
    """Sent by our own client and not by kopf, which watches LLMServices beside it."""

    @property
    def is_write(self) -> bool:
        """Whether it changes an object people look at: neither an Event nor a Lease."""
        return self.verb in ("create", "patch", "delete") and self.resource not in ("events", "leases")


class Faults:
    """None at all; what differs from that is a subclass."""

    proxy: "ApiProxy"

    async def instead(self, call: Call, request: web.Request) -> web.StreamResponse | None:
        """Return an answer in place of the API server's, or None to let it answer."""
        return None

    async def afterwards(self, call: Call, request: web.Request) -> None:
        """Do something before the API server's answer is passed on."""

    def events(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Return what a watch is told, for what the API server tells it."""
        return lines


class ApiProxy:
    """See above; made by `api_proxy`."""

    def __init__(self, plane: ControlPlane, faults: Faults):
        self._plane = plane
        self._faults = faults
        faults.proxy = self
        context = ssl.create_default_context(cafile=str(plane.ca_file))
        context.load_cert_chain(plane.client_certificate, plane.client_key)
        self._session = aiohttp.ClientSession(
            plane.url,
            connector=aiohttp.TCPConnector(limit=0, ssl=context),
            headers={"Accept-Encoding": "identity"},
            read_bufsize=LONGEST_LINE_BYTES,
            timeout=aiohttp.ClientTimeout(total=None, connect=5),
        )
        self._watching: list[tuple[Call, web.Request]] = []
        self._lists: dict[str, str] = {}
        self.kubeconfig = Path()
        self.calls: list[tuple[float, Call]] = []
        """With the time of each, on the monotonic clock."""
        self.told: Counter[str] = Counter()
        """How many events of each resource came for the operator's watches, without bookmarks."""
        self.written = Written()

    def clear(self) -> None:
        """Forget what was asked, told and written until now."""
        self.calls.clear()
        self.told.clear()
        self.written = Written()

    def cut(self, resources: Iterable[str]) -> None:
        """Reset the connections of the watches of these resources."""
        for call, request in list(self._watching):
            if call.resource in resources:
                reset(request)

    async def remembered(self, resources: Iterable[str]) -> dict[str, bytes]:
        """Return what is answered now to the whole lists of these resources that were asked for, by path and query."""
        answers = {}
        for target, resource in list(self._lists.items()):
            if resource in resources:
                async with self._session.get(target) as answer:
                    answers[target] = await answer.read()
        return answers

    async def close(self) -> None:
        """Close the connections to the API server."""
        await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        call = _call(request)
        self.calls.append((time.monotonic(), call))
        if call.verb == "list" and names.INSTANCE_LABEL not in request.query.get("labelSelector", ""):
            self._lists[request.path_qs] = call.resource
        instead = await self._faults.instead(call, request)
        if instead is not None:
            return instead
        if call.verb == "watch":
            return await self._watch(call, request)
        before = await self._deployment(call, request)
        async with self._forwarded(request) as answer:
            response = await _copied(answer)
        self.written.note(call.verb, f"{call.resource}/{call.name}", before, answer.status, response.body)
        await self._faults.afterwards(call, request)
        return response

    async def _deployment(self, call: Call, request: web.Request) -> Manifest | None:
        """Return the Deployment that is about to be changed."""
        if (call.verb, call.resource, call.subresource) != ("patch", "deployments", ""):
            return None
        async with self._session.get(request.path) as answer:
            return dict(await answer.json()) if answer.status == 200 else None

    async def _watch(self, call: Call, request: web.Request) -> web.StreamResponse:
        async with self._forwarded(request) as answer:
            if answer.status != 200:
                return await _copied(answer)
            response = web.StreamResponse(headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            self._watching.append(at := (call, request))
            try:
                async for line in self._faults.events(call, self._counted(call, answer.content)):
                    await response.write(line)
            finally:
                self._watching.remove(at)
            return response

    async def _counted(self, call: Call, lines: aiohttp.StreamReader) -> AsyncIterator[bytes]:
        async for line in lines:
            self.told[call.resource] += call.is_operators and event_type(line) != "BOOKMARK"
            yield line

    @asynccontextmanager
    async def _forwarded(self, request: web.Request) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        body = await request.read()
        async with self._session.request(request.method, request.path_qs, headers=headers, data=body or None) as answer:
            yield answer


def event_type(line: bytes) -> str:
    """Return the type of a watch event."""
    return str(json.loads(line)["type"])


def refusal(status: int, headers: dict[str, str] | None = None) -> web.Response:
    """Return an answer of this status as the API server words it."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": "played in a test"}
    return web.json_response(body, status=status, headers=headers)


def reset(request: web.Request) -> None:
    """Break the connection that a request came on, so that its sender sees a reset."""
    transport = request.transport
    if transport is None:
        return
    linger_for_nothing = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_nothing)
    transport.abort()


async def hang() -> NoReturn:
    """Never answer; ends when whoever asked has gone."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


@asynccontextmanager
async def api_proxy(plane: ControlPlane, faults: Faults) -> AsyncIterator[ApiProxy]:
    """Run a proxy before the API server of `plane`, on a free port of loopback, while the body runs."""
    proxy = ApiProxy(plane, faults)
    app = web.Application(client_max_size=LONGEST_LINE_BYTES)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        proxy.kubeconfig = plane.directory / f"proxy-{port}.kubeconfig"
        proxy.kubeconfig.write_text(json.dumps(_kubeconfig(f"http://127.0.0.1:{port}")))
        yield proxy
    finally:
        await runner.cleanup()
        await proxy.close()
        with contextlib.suppress(FileNotFoundError):
            proxy.kubeconfig.unlink()


def _kubeconfig(url: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": url}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
        "current-context": "proxy",
    }


def _call(request: web.Request) -> Call:
    is_operators = request.headers.get("User-Agent") == USER_AGENT
    _, _, rest = request.path.partition("/namespaces/")
    resource, name, subresource = ([*rest.split("/")[1:], "", "", ""])[:3]
    verb = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[request.method]
    if verb == "get" and not name:
        verb = "watch" if request.query.get("watch") == "true" else "list"
    return Call(verb, resource, name, subresource, is_operators)


async def _copied(answer: aiohttp.ClientResponse) -> web.Response:
    headers = {name: answer.headers[name] for name in ("Retry-After",) if name in answer.headers}
    body = await answer.read()
    return web.Response(status=answer.status, body=body, content_type=answer.content_type, headers=headers)
