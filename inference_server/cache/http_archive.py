"""A model in one archive behind a URL: fetched, checked against its sha256, and only then opened."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from inference_server.cache import archive, volume
from inference_server.cache.archive import Archive
from inference_server.cache.endpoints import origin
from inference_server.cache.failures import WarmupFailure
from inference_server.cache.growing_file import GrowingFile
from inference_server.cache.listing import Listing, RemoteFile
from inference_server.cache.progress import Reporter
from inference_server.cache.transfer import Answer, Refusal, Transfer


class HttpArchive:
    """The archive at `url`; `endpoints` are the addresses that it may redirect to."""

    def __init__(self, url: str, sha256: str, token: str | None, endpoints: Sequence[str]) -> None:
        # The query may hold a signature, and messages are read by many.
        self.name = urlunsplit((*urlsplit(url)[:3], "", ""))
        self._url, self._sha256, self._token = url, sha256, token
        self._transfer = Transfer(self.name, self._headers, self._refused, endpoints)
        self._archive: Archive | None = None

    def folder(self, root: Path) -> Path:
        # By content alone: the same archive behind another URL is the same model.
        return volume.source_folder(root, "sha256", self._sha256)

    def commit(self) -> str:
        return self._sha256

    @contextmanager
    def opened(self, raw: Path, reporter: Reporter) -> Iterator[Listing]:
        path = raw.with_name(f".{raw.name}.archive")
        if _sha256_of(path) != self._sha256:
            self._fetch(path, reporter)
        reporter.unpacking()
        # One that is refused stays: whoever tries again would otherwise bring gigabytes to refuse them again.
        with archive.opened(path, self.name, shutil.disk_usage(raw.parent).total) as self._archive:
            yield Listing(self.name, self._sha256, self._archive.files, passing_bytes=path.stat().st_size)
        path.unlink()

    def download(self, file: RemoteFile, target: Path, written: Callable[[int], None]) -> None:
        assert self._archive is not None, "the archive is opened before its files are asked for"
        with GrowingFile(target, written) as growing:
            self._archive.unpack(file, growing)
            growing.sync()

    def _fetch(self, path: Path, reporter: Reporter) -> None:
        refused = path.with_suffix(".refused")
        answers: set[Answer] = set()

        def begun(answer: Answer) -> None:
            if found := _remembered(refused, answer):
                raise self._mismatch(found)
            missing_bytes = answer.size - path.stat().st_size
            volume.check_space(path.parent, missing_bytes, f"{self.name} with {answer.size} bytes")
            reporter.downloading(answer.size)
            answers.add(answer)

        while True:
            goes_on = path.is_file()
            answers.clear()
            with volume.filling(path.parent, lambda: _left(answers, path), self.name):
                self._transfer.fetch(self._url, path, begun, reporter.bytes_done)
            found = _sha256_of(path)
            if found == self._sha256:
                return
            path.unlink()
            # What an earlier try left may be of another file, and the file may have changed between two connections.
            if not goes_on and len(answers) <= 1:
                for answer in answers:
                    refused.write_text(json.dumps({**asdict(answer), "sha256": found}))
                raise self._mismatch(str(found))

    def _headers(self, url: str) -> dict[str, str]:
        """Return the token, for the URL's own origin only."""
        is_own = self._token is not None and origin(url) == origin(self._url)
        return {"Authorization": f"Bearer {self._token}"} if is_own else {}

    def _refused(self, refusal: Refusal) -> WarmupFailure | None:
        match refusal.status:
            case 401 | 403:
                where = "" if self._token else " in spec.model.source.http.tokenSecretRef"
                text = f"name a Secret{where} whose token may read {self.name}: the answer was {refusal.status}"
                return WarmupFailure("AccessDenied", text)
            case 404 | 410:
                text = f"correct spec.model.source.http.url: {self.name} is not there, the answer was {refusal.status}"
                return WarmupFailure("ModelNotFound", text)
            case 429:
                return WarmupFailure("Throttled", f"wait, or ask for a higher limit: {self.name} answered 429")
        return None

    def _mismatch(self, found: str) -> WarmupFailure:
        text = f"correct spec.model.source.http.sha256, or the file: {self.name} has {found}, not {self._sha256}"
        return WarmupFailure("DigestMismatch", text)


def _sha256_of(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _left(answers: Iterable[Answer], path: Path) -> int:
    return max((answer.size for answer in answers), default=0) - path.stat().st_size


def _remembered(path: Path, answer: Answer) -> str | None:
    """Return the sha256 of what the server offers, where it came before in vain: gigabytes need not come again."""
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    sha256: str | None = known.pop("sha256", None)
    return sha256 if answer.version is not None and known == asdict(answer) else None
