"""A small model hub that speaks the Hugging Face protocol: what huggingface_hub needs to resolve, list and download.

Only the standard library, so that its image is a Python and a few files. Runs in a thread for tests on loopback and as
a pod for the demo and the e2e tests.
"""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tests.support.hub.faults import STATUS, Faults, Kind
from tests.support.hub.repository import HubFile, Snapshot, snapshot

INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?")
TREE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?")
RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
BLOCK_BYTES = 1 << 20
FAULT_HEADERS: Mapping[str, Mapping[str, str]] = {
    "throttled": {"Retry-After": "1"},
    "not-found": {"X-Error-Code": "EntryNotFound"},
}


@dataclass(frozen=True)
class Request:
    """What a client asked, for tests that count requests or look for a token where none belongs."""

    method: str
    path: str
    authorization: str | None
    range: str | None


@dataclass
class Hub:
    """The models below `root`. `gated` names repositories and the one token that may read their files.

    With `cdn` set, files in large-file storage are redirected to that address, as the public hub does it; without
    `ranges` every file is sent whole.
    """

    root: Path
    gated: Mapping[str, str] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    cdn: str | None = None
    ranges: bool = True
    requests: list[Request] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """One connection to the hub that the server holds."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    hub: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        # Revisions may hold an encoded slash, so that the routes match the path as it was sent.
        raw = urlsplit(self.path).path
        self.hub.requests.append(
            Request(self.command, path, self.headers.get("Authorization"), self.headers.get("Range"))
        )
        fault = self.hub.faults.strike(path)
        if fault in STATUS:
            self._refuse(STATUS[fault], FAULT_HEADERS.get(fault, {}))
        elif raw == "/healthz":
            self._json({"status": "ok"})
        elif match := INFO.fullmatch(raw):
            self._info(unquote(match["repo"]), unquote(match["revision"] or "main"))
        elif match := TREE.fullmatch(raw):
            self._tree(unquote(match["repo"]), unquote(match["revision"]), unquote(match["folder"] or ""))
        elif match := RESOLVE.fullmatch(raw):
            self._resolve(unquote(match["repo"]), unquote(match["revision"]), unquote(match["file"]), fault)
        else:
            self._refuse(404, {})

    def _snapshot(self, repo: str, revision: str) -> Snapshot | None:
        """Find a snapshot or send the answer that says what is missing."""
        try:
            found = snapshot(self.hub.root, repo, revision)
        except LookupError:
            # As the public hub does it: who must not know whether a repository exists gets 401.
            self._refuse(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            return None
        if found is None:
            self._refuse(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"})
        return found

    def _info(self, repo: str, revision: str) -> None:
        if found := self._snapshot(repo, revision):
            self._json(
                {
                    "_id": found.commit[:24],
                    "id": repo,
                    "modelId": repo,
                    "sha": found.commit,
                    "private": False,
                    "disabled": False,
                    "gated": "manual" if repo in self.hub.gated else False,
                    "tags": [],
                    "siblings": [_sibling(file) for file in found.files],
                }
            )

    def _tree(self, repo: str, revision: str, folder: str) -> None:
        if found := self._snapshot(repo, revision):
            prefix = f"{folder}/" if folder else ""
            self._json([_entry(file) for file in found.files if file.name.startswith(prefix)])

    def _resolve(self, repo: str, revision: str, name: str, fault: Kind | None) -> None:
        if (found := self._snapshot(repo, revision)) is None or self._is_refused(repo):
            return
        file = found.file(name)
        if file is None:
            self._refuse(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found.commit})
            return
        headers = {"X-Repo-Commit": found.commit, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        if file.sha256:
            headers |= {"X-Linked-ETag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        if file.sha256 and self.hub.cdn:
            target = f"{self.hub.cdn}/{repo}/resolve/{found.commit}/{quote(name)}"
            self._send(302, headers | {"Location": target}, b"")
            return
        self._send_file(file, headers, fault)

    def _is_refused(self, repo: str) -> bool:
        wanted = self.hub.gated.get(repo)
        given = self.headers.get("Authorization")
        if wanted is None or given == f"Bearer {wanted}":
            return False
        message = f"Access to model {repo} is restricted."
        self._refuse(403 if given else 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": message})
        return True

    def _send_file(self, file: HubFile, headers: dict[str, str], fault: Kind | None) -> None:
        size = file.size // 2 if fault == "truncated" else file.size
        start, end = self._range(size)
        if start >= size > 0:
            self._send(416, {"Content-Range": f"bytes */{size}"}, b"")
            return
        partial = self.hub.ranges and "Range" in self.headers
        if partial:
            headers = headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
        self.send_response(206 if partial else 200)
        for name, value in (headers | {"Content-Length": str(end - start)}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._send_bytes(file.path, start, start + (end - start) // 2 if fault == "cut" else end, fault)

    def _send_bytes(self, path: Path, start: int, end: int, fault: Kind | None) -> None:
        with path.open("rb") as file:
            file.seek(start)
            left = end - start
            while left > 0 and (block := file.read(min(BLOCK_BYTES, left))):
                left -= len(block)
                if fault == "corrupt" and left == 0:
                    block = block[:-1] + bytes([block[-1] ^ 0xFF])
                self.wfile.write(block)
        if fault == "cut":
            self.close_connection = True

    def _range(self, size: int) -> tuple[int, int]:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None or not self.hub.ranges:
            return 0, size
        return int(match[1]), min(int(match[2]) + 1, size) if match[2] else size

    def _refuse(self, status: int, headers: Mapping[str, str]) -> None:
        body = json.dumps({"error": headers.get("X-Error-Message", self.responses.get(status, ("",))[0])}).encode()
        self._send(status, {"Content-Type": "application/json", **headers}, body)

    def _json(self, content: Any) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is the base class's
        """Stay silent: tests read `requests`, and a pod's log has no reader."""


def _sibling(file: HubFile) -> dict[str, Any]:
    lfs = {"lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": 134}} if file.sha256 else {}
    return {"rfilename": file.name, "size": file.size, "blobId": file.blob_id, **lfs}


def _entry(file: HubFile) -> dict[str, Any]:
    lfs = {"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": 134}} if file.sha256 else {}
    return {"type": "file", "path": file.name, "size": file.size, "oid": file.blob_id, **lfs}


class HubServer(ThreadingHTTPServer):
    """Serves one hub; its threads end with the process, whatever a client leaves open."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that went away."""


def server(hub: Hub, host: str = "127.0.0.1", port: int = 0) -> HubServer:
    """Return a server bound to `host`:`port` (0: any free port)."""
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    return HubServer((host, port), handler)


@contextmanager
def running(hub: Hub) -> Iterator[str]:
    """Serve `hub` on loopback and yield its endpoint."""
    with server(hub) as bound:
        thread = threading.Thread(target=bound.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.server_address[1]}"
        finally:
            bound.shutdown()
            thread.join()
