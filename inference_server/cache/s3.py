"""A model in a folder of an S3 bucket, at AWS or any server that speaks its protocol.

Nothing but what the settings say: no credentials from files or from a metadata service, no redirects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import quote, unquote_plus, urlsplit
from xml.etree import ElementTree

from inference_server.cache import volume
from inference_server.cache.failures import WarmupFailure
from inference_server.cache.listing import FILES_LIMIT, Listing, RemoteFile
from inference_server.cache.progress import Reporter
from inference_server.cache.remote import Interrupted
from inference_server.cache.sigv4 import Credentials, query, signed
from inference_server.cache.transfer import Refusal, Transfer
from inference_server.checkpoint.validation import METADATA


class S3:
    """The folder at `uri`, s3://BUCKET/FOLDER. Without `credentials` the bucket has to be public."""

    def __init__(self, uri: str, endpoint: str, region: str, credentials: Credentials | None) -> None:
        self.name = uri.rstrip("/")
        self._endpoint, self._region, self._credentials = endpoint.rstrip("/"), region, credentials
        bucket, _, folder = self.name.removeprefix("s3://").partition("/")
        self._base = _base_url(self._endpoint, bucket)
        self._prefix = f"{folder}/" if folder else ""
        self._etags: dict[str, str] = {}

    def folder(self, root: Path) -> Path:
        return volume.source_folder(root, self._endpoint, self.name)

    def commit(self) -> str:
        """Return the name of what the folder holds now: S3 has none, so one is made of the list of files."""
        files = [file for file in self._files if file.name in METADATA or file.name.endswith(".safetensors")]
        lines = sorted(f"{self._etags[file.name]} {file.size} {file.name}\n" for file in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:40]

    @contextmanager
    def opened(self, raw: Path, reporter: Reporter) -> Iterator[Listing]:
        yield Listing(self.name, raw.name, self._files)

    def download(self, file: RemoteFile, target: Path, written: Callable[[int], None]) -> None:
        url = f"{self._base}/{quote(self._prefix + file.name, safe='/~')}"
        # The very object that was listed, or none.
        headers = partial(self._headers, {"If-Match": self._etags[file.name]})
        Transfer(f"{self.name}/{file.name}", headers, self._refused).fetch(url, target, lambda _: None, written)
        if (size := target.stat().st_size) != file.size:
            raise Interrupted(f"{file.name} ended at {size} of {file.size} bytes")

    @cached_property
    def _files(self) -> tuple[RemoteFile, ...]:
        """The files that lie right in the folder; no replica loads any from further below."""
        found: list[RemoteFile] = []
        token: str | None = ""
        while token is not None and len(found) <= FILES_LIMIT:
            page, token = self._page(token)
            found += page
        if not found:
            text = f"correct spec.model.source.s3.uri: {self._endpoint} has no files in {self.name}"
            raise WarmupFailure("ModelNotFound", text)
        return tuple(found)

    def _page(self, token: str) -> tuple[list[RemoteFile], str | None]:
        """Return some of the files, and what to ask for the next."""
        parameters = {"list-type": "2", "delimiter": "/", "encoding-type": "url", "prefix": self._prefix}
        if token:
            parameters["continuation-token"] = token
        transfer = Transfer(self.name, partial(self._headers, {}), self._refused)
        document = transfer.read(f"{self._base}/?{query(parameters)}")
        try:
            # Whatever entities expand to, expat 2.4 and later bounds it.
            page = ElementTree.fromstring(document)  # noqa: S314
            return list(self._entries(page)), page.findtext("{*}NextContinuationToken") or None
        except (ElementTree.ParseError, ValueError) as error:
            text = f"check the endpoint: {self._endpoint} does not answer as S3 does ({error})"
            raise WarmupFailure("HubUnreachable", text) from error

    def _entries(self, page: ElementTree.Element) -> Iterator[RemoteFile]:
        # Not every server encodes when it is asked to.
        is_encoded = page.findtext("{*}EncodingType") == "url"
        for entry in page.iterfind("{*}Contents"):
            key = _text(entry, "Key")
            name = (unquote_plus(key) if is_encoded else key).removeprefix(self._prefix)
            # The folder itself may be an object, made by a web console.
            if name:
                self._etags[name] = _text(entry, "ETag")
                yield RemoteFile(name, int(_text(entry, "Size")))

    def _headers(self, wanted: dict[str, str], url: str) -> dict[str, str]:
        if self._credentials is None:
            return wanted
        return signed(url, self._credentials, self._region, datetime.now(UTC), headers=wanted)

    def _refused(self, refusal: Refusal) -> WarmupFailure | None:
        """Translate S3's own words; they name buckets and keys, never a secret."""
        code = _code(refusal.body)
        said = f"the answer was {refusal.status} {code}".rstrip()
        region = refusal.headers.get("x-amz-bucket-region")
        if region and region != self._region:
            return WarmupFailure("ModelNotFound", f"set spec.model.source.s3.region to {region}: {self.name} is there")
        match refusal.status, code:
            case 401 | 403, _:
                text = f"name a Secret in credentialsSecretRef whose keys may list and read {self.name}: {said}"
                return WarmupFailure("AccessDenied", text)
            case 404, _:
                text = f"correct spec.model.source.s3.uri: {self._endpoint} has no {self.name}, {said}"
                return WarmupFailure("ModelNotFound", text)
            case 412, _:
                text = f"wait until all files are uploaded: {self.name} changed while it was downloaded"
                return WarmupFailure("DigestMismatch", text)
            case (429, _) | (_, "SlowDown"):
                return WarmupFailure("Throttled", f"wait, or ask for a higher limit: {said} for {self.name}")
        return None


def _base_url(endpoint: str, bucket: str) -> str:
    """Return the URL of a bucket: a path below the endpoint, or a host of its own where AWS has one for it.

    A bucket with dots in its name has none that a certificate would cover.
    """
    parts = urlsplit(endpoint)
    if (parts.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")) and "." not in bucket:
        return f"{parts.scheme}://{bucket}.{parts.netloc}"
    return f"{endpoint}/{bucket}"


def _text(entry: ElementTree.Element, name: str) -> str:
    text = entry.findtext(f"{{*}}{name}")
    if text is None:
        raise ValueError(f"an object without {name}")
    return text


def _code(body: bytes) -> str:
    """Return the code of an error document; "" where it is none."""
    try:
        code = ElementTree.fromstring(body).findtext("{*}Code", "")  # noqa: S314 - as above
    except ElementTree.ParseError:
        return ""
    return code if code.isalnum() and len(code) <= 64 else ""
