"""The one place that talks to a model hub: by huggingface_hub, to the endpoint and with the token it is given.

huggingface_hub itself no longer resumes after a crash (its partial files carry a name of their own for each process),
so that this module calls its transfer function on partial files that stay.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from inference_server.cache import volume
from inference_server.cache.failures import WarmupFailure
from inference_server.cache.growing_file import GrowingFile
from inference_server.cache.listing import Listing, RemoteFile
from inference_server.cache.progress import Reporter
from inference_server.cache.remote import Interrupted

RESOLVE_WAITS_SECONDS = (1.0, 3.0)
"""A hub in the same cluster may be starting at the same moment; a longer outage is for the Job's retries."""

ENVIRONMENT = {
    "HF_HUB_DISABLE_XET": "1",  # its own cache, its own protocol, no resume that we could verify
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",  # only the token that the settings name, whatever lies about in a home folder
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HOME": "/tmp/huggingface",  # noqa: S108 - the pod's own emptyDir; nothing is expected to be written
}


class Hub:
    """A revision of a repository on the hub at `endpoint`.

    `token` goes to this endpoint only, never along with a redirect to another host.
    """

    def __init__(self, endpoint: str, token: str | None, repo: str, revision: str) -> None:
        os.environ.update(ENVIRONMENT)
        os.environ.pop("HF_HUB_OFFLINE", None)
        # They log URLs, which carry signatures behind a redirect, and headers that cannot be sent, with the token.
        for library in ("httpx2", "httpcore2"):
            logging.getLogger(library).setLevel(logging.WARNING)
        self.name = repo
        self._endpoint = endpoint.rstrip("/")
        self._token: str | bool = token or False
        self._revision = revision

    def folder(self, root: Path) -> Path:
        return volume.source_folder(root, self._endpoint, self.name)

    def commit(self) -> str:
        if not self._listing.commit.isalnum():
            raise WarmupFailure("HubUnreachable", f"check the endpoint: {self._listing.commit!r} is no commit")
        return self._listing.commit

    @contextmanager
    def opened(self, raw: Path, reporter: Reporter) -> Iterator[Listing]:
        yield self._listing

    def download(self, file: RemoteFile, target: Path, written: Callable[[int], None]) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        listing = self._listing
        url = hf_hub_url(listing.repo, file.name, revision=listing.commit, endpoint=self._endpoint)
        # As it is, not compressed: a resumed transfer counts bytes of the file.
        headers = build_hf_headers(token=self._token) | {"Accept-Encoding": "identity"}
        try:
            with GrowingFile(target, written) as partial:
                http_get(url, partial, resume_size=partial.tell(), headers=headers, expected_size=file.size)
                partial.sync()
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            if type(error) is OSError:  # what the library raises for a wrong length; its HTTP errors are a subclass
                raise Interrupted(f"{file.name} ended at {target.stat().st_size} of {file.size} bytes") from None
            raise self._failure(error, listing.repo, listing.commit) from error

    @cached_property
    def _listing(self) -> Listing:
        """The commit that the revision names now, and its files."""
        for wait in RESOLVE_WAITS_SECONDS:
            try:
                return self._ask(self.name, self._revision)
            except WarmupFailure as failure:
                if failure.reason != "HubUnreachable":
                    raise
            time.sleep(wait)
        return self._ask(self.name, self._revision)

    def _ask(self, repo: str, revision: str) -> Listing:
        from huggingface_hub import HfApi

        try:
            api = HfApi(endpoint=self._endpoint, token=self._token)
            info = api.model_info(repo, revision=revision, files_metadata=True, timeout=30)
            return Listing(repo, _text(info.sha), tuple(_remote_file(sibling) for sibling in info.siblings or ()))
        except Exception as error:
            raise self._failure(error, repo, revision) from error

    def _failure(self, error: Exception, repo: str, revision: str) -> WarmupFailure:
        """Translate what the library raises. Its texts hold URLs, never the token."""
        import httpx2
        from huggingface_hub import errors

        at = f"{repo} at {self._endpoint}"
        match error:
            case WarmupFailure():
                return error
            case errors.GatedRepoError() | errors.DisabledRepoError():
                place = "the Secret that spec.model.source.huggingFace.tokenSecretRef names"
                text = f"accept the terms of {at} and put a token that may read it into {place}: access is refused"
                return WarmupFailure("AccessDenied", text)
            case errors.RevisionNotFoundError():
                return WarmupFailure("RevisionNotFound", f"correct the revision: {at} has no {revision!r}")
            case errors.RepositoryNotFoundError() | errors.HFValidationError():
                hidden = "" if self._token else ", or it is private and needs a token"
                return WarmupFailure("ModelNotFound", f"correct the name of the model: there is no {at}{hidden}")
            case errors.EntryNotFoundError():
                return WarmupFailure("ModelInvalid", f"ask the publisher: a file that {at} lists cannot be downloaded")
            case errors.HfHubHTTPError():
                return self._http_failure(error.response.status_code, at)
            case httpx2.HTTPError() | errors.FileMetadataError() | ValueError() | TypeError() | KeyError():
                text = f"check endpoint, network and proxy: {at} does not answer as a hub ({type(error).__name__})"
                return WarmupFailure("HubUnreachable", text)
        return WarmupFailure("WarmupFailed", f"{at}: {type(error).__name__}: {error}".splitlines()[0])

    def _http_failure(self, status: int, at: str) -> WarmupFailure:
        if status in (401, 403):
            return WarmupFailure("AccessDenied", f"name a Secret whose token may read {at}: the answer was {status}")
        if status == 429:
            return WarmupFailure("Throttled", f"wait, or give a token with a higher limit: {at} answered 429")
        return WarmupFailure("HubUnreachable", f"check the endpoint: {at} answered {status}")


def _remote_file(sibling: Any) -> RemoteFile:
    return RemoteFile(
        name=_text(sibling.rfilename),
        size=int(sibling.size),
        git_blob_id=sibling.blob_id,
        sha256=sibling.lfs.sha256 if sibling.lfs else None,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("the hub's answer lacks a commit or a name")
    return value
