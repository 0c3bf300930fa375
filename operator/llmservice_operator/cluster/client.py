"""A small client of the API server: a few verbs on raw manifests, every request bounded in time and rate.

The library's typed models are left out on purpose: they cost a multiple in time and memory, and one odd field in an
answer raises after the write has already happened. The library is used for what is hard to get right: configuration,
credentials, TLS.
"""

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlencode

import aiohttp
import pydantic_core
from kubernetes.aio.client.rest import RESTClientObject

from llmservice_operator import metrics, version
from llmservice_operator.cluster import errors, login
from llmservice_operator.cluster.limiter import RateLimiter
from llmservice_operator.cluster.resources import Resource
from llmservice_operator.manifest import Manifest

USER_AGENT: Final = f"llmservice-operator/{version.VERSION}"
REQUEST_TIMEOUT_SECONDS: Final = 15.0
CONNECT_TIMEOUT_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 40
"""How long one watch may last before the server ends it; the informer then goes on from where it was."""
SILENCE_SECONDS: Final = 45.0
"""Before it ends a watch the server sends a bookmark: a stream that is silent for longer is dead, whatever TCP says.

Short, because what happens meanwhile is seen only after it: with the server's usual minute it would be too late for
somebody who waits.
"""
PAGE_SIZE: Final = 100
"""Objects in one page of a list. Pages of all kinds are in memory at the same time at the start, parsed and not."""
# With its charset the library takes it for a text of ours, and sends it as it is.
APPLY: Final = "application/apply-patch+yaml; charset=utf-8"
MERGE: Final = "application/merge-patch+json"


class Client:
    """Talks to one API server. `close` it from the loop that opened it."""

    def __init__(self, configuration: Any, kubeconfig: Path | None = None, limiter: RateLimiter | None = None):
        self.may_write: Callable[[], bool] = lambda: True
        """Asked right before every write is sent."""
        self._configuration = configuration
        self._kubeconfig = kubeconfig
        self._limiter = limiter or RateLimiter(per_second=50, burst=100)
        self._rest = RESTClientObject(configuration)

    @classmethod
    async def connect(cls, kubeconfig: Path | None = None) -> "Client":
        """Return a client with the credentials of `kubeconfig`, or those of the pod."""
        return cls(await login.load_configuration(kubeconfig), kubeconfig)

    async def close(self) -> None:
        """Close every connection."""
        await self._rest.close()

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest:
        """Return one object."""
        return await self._json("GET", resource.path(namespace, name))

    async def list_page(self, resource: Resource, namespace: str | None, query: Mapping[str, str]) -> Manifest:
        """Return one page of a list; `query` holds selectors, `limit` and `continue`."""
        return await self._json("GET", resource.path(namespace), query=query)

    async def apply(
        self, resource: Resource, manifest: Manifest, field_manager: str, subresource: str | None = None
    ) -> Manifest:
        """Server-side apply the complete body under `field_manager`, taking over fields that others hold."""
        meta = manifest["metadata"]
        path = resource.path(meta["namespace"], meta["name"], subresource)
        query = {"fieldManager": field_manager, "force": "true"}
        return await self._json("PATCH", path, query=query, body=as_yaml(manifest), content_type=APPLY)

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        """Create an object that is not applied: an Event."""
        return await self._json("POST", resource.path(manifest["metadata"]["namespace"]), body=manifest)

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Manifest) -> Manifest:
        """Merge-patch an object that is not applied: an Event's series."""
        return await self._json("PATCH", resource.path(namespace, name), body=patch, content_type=MERGE)

    async def delete(
        self, resource: Resource, manifest: Manifest, propagation: Literal["Background", "Foreground"] = "Background"
    ) -> None:
        """Delete exactly the object that was seen: another one of that name, or a later version of it, is a
        ConflictError. `propagation` says when its dependents go.
        """
        meta = manifest["metadata"]
        preconditions = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        options = {"propagationPolicy": propagation, "preconditions": preconditions}
        await self._json("DELETE", resource.path(meta["namespace"], meta["name"]), body=options)

    async def watch(
        self, resource: Resource, namespace: str | None, resource_version: str, label_selector: str | None
    ) -> AsyncIterator[Manifest]:
        """Yield watch events, bookmarks included, until the server ends the stream.

        Raises:
            BusyError: the connection broke, or the stream was silent for longer than the server's bookmarks allow.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        if label_selector:
            query["labelSelector"] = label_selector
        timeout = aiohttp.ClientTimeout(
            total=WATCH_SECONDS + SILENCE_SECONDS, connect=CONNECT_TIMEOUT_SECONDS, sock_read=SILENCE_SECONDS
        )
        response = await self._send("GET", resource.path(namespace), query, None, "application/json", timeout)
        try:
            async for line in response.content:
                yield _parsed(line)
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            raise errors.BusyError(f"watch of {resource.plural} broke: {type(error).__name__}") from error
        finally:
            _abort(response)

    async def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | str | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
        started, status = time.monotonic(), "error"
        try:
            response = await self._send(method, path, query, body, content_type, timeout)
            async with response:
                answer: Manifest = _parsed(await response.read())
                status = str(response.status)
                return answer
        except errors.ApiError as error:
            status = str(error.status or "error")
            raise
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            raise errors.BusyError(f"{method} {path}: {type(error).__name__}") from error
        finally:
            metrics.API_REQUEST_SECONDS.labels(method, status).observe(time.monotonic() - started)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Manifest | str | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - it bounds the body that is read after this returns, too
    ) -> aiohttp.ClientResponse:
        """Send one request and return the successful response, its body still to be read."""
        try:
            return await self._send_once(method, path, query, body, content_type, timeout)
        except errors.UnauthorizedError:
            # Tokens of kubeconfigs with a log-in plug-in run out; the plug-in is asked for another one, once.
            self._configuration = await login.load_configuration(self._kubeconfig)
            return await self._send_once(method, path, query, body, content_type, timeout)

    async def _send_once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Manifest | str | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> aiohttp.ClientResponse:
        await self._limiter.wait()
        url = f"{self._configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json", "Content-Type": content_type}
        if header := await login.authorization(self._configuration):
            headers["Authorization"] = header
        if method != "GET" and not self.may_write():
            raise errors.NotLeadingError(f"{method} {path}: this replica does not lead")
        try:
            answer = await self._rest.request(method, url, headers, body, _request_timeout=timeout)
            response: aiohttp.ClientResponse = answer.response
            if response.status < 400:
                return response
            async with response:
                error = errors.from_status(response.status, _decoded(await response.read()), response.headers)
        except (aiohttp.ClientError, OSError, TimeoutError) as failure:
            raise errors.BusyError(f"{method} {path}: {type(failure).__name__}") from failure
        if error.retry_after_seconds is not None:
            self._limiter.close_for(error.retry_after_seconds)
        if isinstance(error, errors.ForbiddenError) and error.missing_right is not None:
            metrics.MISSING_RIGHTS.labels(*error.missing_right).inc()
        raise error


_NOT_IN_YAML: Final = re.compile("[\x7f-\uffff]")


def as_yaml(manifest: Manifest) -> str:
    """Return a manifest as JSON that a parser of YAML reads alike.

    An apply is read as YAML, which knows no surrogate pairs: what JSON escapes as two has to stand there as it is. All
    else beyond ASCII is escaped, because YAML takes some of it for ends of lines, and some for no text at all.
    """
    return _NOT_IN_YAML.sub(_escaped, json.dumps(manifest, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    is_half_a_pair = 0xD800 <= code <= 0xDFFF
    return f"\\u{0xFFFD if is_half_a_pair else code:04x}"


def _parsed(text: bytes) -> Any:
    """Return the value of a JSON text.

    Not `json.loads`: here equal strings, which fill most of a manifest, are one object in memory, whatever answer they
    came in.
    """
    return pydantic_core.from_json(text)


def _decoded(body: bytes) -> Any:
    """Return an error's body; proxies on the way answer in HTML."""
    try:
        return _parsed(body)
    except ValueError:
        return None


def _abort(response: aiohttp.ClientResponse) -> None:
    """Drop the connection of a watch. It ends in the middle of its stream, so there is no use in a TLS goodbye, which
    could outlive the event loop.
    """
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()
