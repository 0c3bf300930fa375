"""A real S3 server on loopback, Versity's gateway to a folder, and what a test puts into it."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import httpx2

from cluster import binaries
from inference_server.cache.sigv4 import Credentials, signed

ROOT = Credentials("root-of-the-test", "secret-of-the-test")
REGION = "eu-central-1"
START_SECONDS = 30.0


@dataclass(frozen=True)
class S3Server:
    """A running server."""

    endpoint: str
    client: httpx2.Client

    def put(self, path: str, content: bytes = b"", query: str = "") -> None:
        """Write an object, or make a bucket where `path` names no more."""
        url = f"{self.endpoint}/{quote(path, safe='/~')}{query}"
        headers = signed(url, ROOT, REGION, datetime.now(UTC), method="PUT", sha256=sha256(content).hexdigest())
        self.client.put(url, content=content, headers=headers).raise_for_status()

    def upload(self, folder: Path, path: str) -> None:
        """Write every file of `folder` below `path`."""
        for file in folder.iterdir():
            self.put(f"{path}/{file.name}", file.read_bytes())

    def publish(self, bucket: str) -> None:
        """Let anybody list and read a bucket."""
        resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        allow = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": ["s3:ListBucket", "s3:GetObject"],
            "Resource": resources,
        }
        policy = {"Version": "2012-10-17", "Statement": [allow]}
        self.put(bucket, json.dumps(policy).encode(), "?policy=")


@contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    """Serve the buckets below `folder`, which is made."""
    program = binaries.ensure(["versitygw"])["versitygw"]
    objects, metadata = folder / "objects", folder / "metadata"
    objects.mkdir(parents=True)
    metadata.mkdir()
    port = _free_port()
    command = [str(program), "--port", f"127.0.0.1:{port}", "--region", REGION, "--quiet", "posix"]
    command += ["--sidecar", str(metadata), str(objects)]
    environment: Mapping[str, str] = {
        **os.environ,
        "ROOT_ACCESS_KEY": ROOT.access_key_id,
        "ROOT_SECRET_KEY": ROOT.secret_access_key,
    }
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            _wait_for(port, server, folder / "log")
            with httpx2.Client(timeout=30) as client:
                yield S3Server(f"http://127.0.0.1:{port}", client)
        finally:
            server.terminate()


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"the S3 server does not listen: {log.read_text()}")
