"""GET requests of a warm-up: repeated where that helps, files resumed by range, redirects only to listed endpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2

from inference_server.cache.endpoints import is_allowed
from inference_server.cache.failures import WarmupFailure
from inference_server.cache.growing_file import GrowingFile

RETRY_WAITS_SECONDS = (1.0, 3.0, 10.0)
"""A connection that breaks is taken up again; a longer outage is for the Job's retries."""
TIMEOUT = httpx2.Timeout(30.0)
"""For each step, not for the whole: a server that sends nothing for so long has gone."""
REDIRECTS = 10
DOCUMENT_LIMIT_BYTES = 16 << 20

Result = TypeVar("Result")


class Unreachable(Exception):  # noqa: N818 - a finding; the text is for the message
    """No answer, or one that may be another the next time."""


@dataclass(frozen=True)
class Answer:
    """What a server says of a file before it sends it."""

    size: int
    """Of the whole file, in bytes."""
    version: str | None
    """Another one for other bytes: the ETag or the time of change, as the server gives them."""


@dataclass(frozen=True)
class Refusal:
    """An answer that is no success, with the beginning of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Transfer:
    """How one server is asked."""

    name: str
    """What messages call the thing that is asked for."""
    headers: Callable[[str], Mapping[str, str]]
    """Returns the headers of a request for a URL, signatures and tokens among them."""
    refused: Callable[[Refusal], WarmupFailure | None]
    """Returns what a refusal means; None where another try may be answered otherwise."""
    endpoints: Sequence[str] = ()
    """What URL and redirects must lie below. Without any, the URL is trusted and no redirect is followed."""

    def __post_init__(self) -> None:
        # It logs every URL, and those of a redirect carry signatures.
        logging.getLogger("httpx2").setLevel(logging.WARNING)

    def fetch(self, url: str, target: Path, begun: Callable[[Answer], None], written: Callable[[int], None]) -> None:
        """Bring the whole file into `target`, going on where an earlier try ended.

        `begun` is told what the server says of the file, whenever it does, and may refuse it, `written` the size so
        far. Nothing here sees to it that the right bytes came: a file may have changed between two tries.

        Raises:
            WarmupFailure: the server refuses, or cannot be reached.
            OSError: the volume refuses.
        """

        def append(client: httpx2.Client) -> None:
            with GrowingFile(target, written) as partial:
                self._append(client, url, partial, begun)
                partial.sync()

        self._repeated(append)

    def read(self, url: str) -> bytes:
        """Return a small document.

        Raises:
            WarmupFailure: as `fetch`.
        """

        def once(client: httpx2.Client) -> bytes:
            with self._answer(client, url, 0) as response:
                self._check(response)
                return _beginning(response, DOCUMENT_LIMIT_BYTES)

        return self._repeated(once)

    def _repeated(self, action: Callable[[httpx2.Client], Result]) -> Result:
        waits = iter(RETRY_WAITS_SECONDS)
        with httpx2.Client(timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}) as client:
            while True:
                try:
                    return action(client)
                except (httpx2.TransportError, Unreachable) as error:
                    if (wait := next(waits, None)) is None:
                        why = str(error) if isinstance(error, Unreachable) else type(error).__name__
                        text = f"check the address, the network and the proxy: {self.name} cannot be had ({why})"
                        raise WarmupFailure("HubUnreachable", text) from error
                    time.sleep(wait)

    def _append(self, client: httpx2.Client, url: str, partial: GrowingFile, begun: Callable[[Answer], None]) -> None:
        start = partial.tell()
        with self._answer(client, url, start) as response:
            if response.status_code == 416 and start:
                return  # Nothing comes after what is here; whether that is the file, its digest says.
            self._check(response)
            if response.status_code != 206:
                start = 0
                partial.restart()
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise Unreachable("it sent another range than was asked for")
            if length := response.headers.get("Content-Length", "").strip():
                version = response.headers.get("ETag") or response.headers.get("Last-Modified")
                begun(Answer(start + int(length), version))
            for block in response.iter_raw():
                partial.write(block)

    @contextmanager
    def _answer(self, client: httpx2.Client, url: str, start: int) -> Iterator[httpx2.Response]:
        """Yield the answer at the end of all redirects."""
        ranged = {"Range": f"bytes={start}-"} if start else {}
        for _ in range(REDIRECTS + 1):
            if self.endpoints:
                self._check_endpoint(url)
            with client.stream("GET", url, headers={**self.headers(url), **ranged}) as response:
                if not (self.endpoints and response.has_redirect_location):
                    yield response
                    return
                url = str(response.url.join(response.headers["Location"]))
        raise Unreachable(f"it redirects more than {REDIRECTS} times")

    def _check_endpoint(self, url: str) -> None:
        if not is_allowed(url, self.endpoints):
            parts = urlsplit(url)
            text = (
                f"have {parts.scheme}://{parts.netloc} added to allowedEndpoints, or name a URL that does not redirect "
                f"there: {self.name} leads off the operator's list"
            )
            raise WarmupFailure("EndpointNotAllowed", text)

    def _check(self, response: httpx2.Response) -> None:
        status = response.status_code
        if status in (200, 206):
            return
        failure = self.refused(Refusal(status, response.headers, _beginning(response, 1 << 16)))
        raise failure or Unreachable(f"the answer was {status}")


def _beginning(response: httpx2.Response, limit_bytes: int) -> bytes:
    body = bytearray()
    for block in response.iter_raw():
        body += block
        if len(body) > limit_bytes:
            break
    return bytes(body[:limit_bytes])
