"""Fetch one URL into a file that outlives a crash: resumed by range, to listed endpoints only, redirects included."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from inference_server.cache.endpoints import is_allowed, origin
from inference_server.cache.failures import WarmupFailure
from inference_server.cache.growing_file import GrowingFile

RETRY_WAITS_SECONDS = (1.0, 3.0, 10.0)
"""A connection that breaks is taken up again; a longer outage is for the Job's retries."""
TIMEOUT = httpx2.Timeout(30.0)
"""For each step, not for the whole: a server that sends nothing for so long has gone."""
REDIRECTS = 10


class Unreachable(Exception):  # noqa: N818 - a finding; the text is for the message
    """No answer, or one that may be another the next time."""


@dataclass(frozen=True)
class Answer:
    """What a server says of a file before it sends it."""

    size: int
    """Of the whole file, in bytes."""
    version: str | None
    """Another one for other bytes: the ETag or the time of change, as the server gives them."""


class Transfer:
    """The download of `url`. `token` goes to the URL's own origin only; `name` is what messages call it."""

    def __init__(self, url: str, name: str, token: str | None, endpoints: Sequence[str]) -> None:
        # It logs every URL, and those of a redirect carry signatures.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        self._url, self._name, self._token = url, name, token
        self._endpoints = tuple(endpoints)

    def fetch(self, target: Path, begun: Callable[[Answer], None], written: Callable[[int], None]) -> None:
        """Bring the whole file into `target`, going on where an earlier try ended.

        `begun` is told what the server says of the file, whenever it does, and may refuse it, `written` the size so
        far. Nothing here sees to it that the right bytes came: a file may have changed between two tries.

        Raises:
            WarmupFailure: the server refuses, or cannot be reached.
            OSError: the volume refuses.
        """
        with httpx2.Client(timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}) as client:
            for wait in (*RETRY_WAITS_SECONDS, None):
                try:
                    with GrowingFile(target, written) as partial:
                        self._append(client, partial, begun)
                        partial.sync()
                        return
                except (httpx2.TransportError, Unreachable) as error:
                    if wait is None:
                        why = str(error) if isinstance(error, Unreachable) else type(error).__name__
                        text = f"check the address, the network and the proxy: {self._name} cannot be had ({why})"
                        raise WarmupFailure("HubUnreachable", text) from error
                    time.sleep(wait)

    def _append(self, client: httpx2.Client, partial: GrowingFile, begun: Callable[[Answer], None]) -> None:
        start = partial.tell()
        with self._answer(client, start) as response:
            if response.status_code == 416 and start:
                return  # Nothing comes after what is here; whether that is the file, its digest says.
            self._check(response.status_code)
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
    def _answer(self, client: httpx2.Client, start: int) -> Iterator[httpx2.Response]:
        """Yield the answer at the end of all redirects."""
        url = self._url
        for _ in range(REDIRECTS + 1):
            self._check_endpoint(url)
            with client.stream("GET", url, headers=self._headers(url, start)) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                url = str(response.url.join(response.headers["Location"]))
        raise Unreachable(f"it redirects more than {REDIRECTS} times")

    def _headers(self, url: str, start: int) -> dict[str, str]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        if self._token and origin(url) == origin(self._url):
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _check_endpoint(self, url: str) -> None:
        if not is_allowed(url, self._endpoints):
            parts = urlsplit(url)
            text = (
                f"have {parts.scheme}://{parts.netloc} added to allowedEndpoints, or name a URL that does not redirect "
                f"there: {self._name} leads off the operator's list"
            )
            raise WarmupFailure("EndpointNotAllowed", text)

    def _check(self, status: int) -> None:
        """Translate a status that is no success; every text begins with what to do."""
        if status in (200, 206):
            return
        if status in (401, 403):
            where = "" if self._token else " in spec.model.source.http.tokenSecretRef"
            text = f"name a Secret{where} whose token may read {self._name}: the answer was {status}"
            raise WarmupFailure("AccessDenied", text)
        if status in (404, 410):
            text = f"correct spec.model.source.http.url: {self._name} is not there, the answer was {status}"
            raise WarmupFailure("ModelNotFound", text)
        if status == 429:
            raise WarmupFailure("Throttled", f"wait, or ask for a higher limit: {self._name} answered 429")
        raise Unreachable(f"the answer was {status}")
