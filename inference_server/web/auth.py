"""API keys: from a mounted Secret, by tenant, reloaded while the server runs.

Only SHA-256 digests are kept. Every digest is compared with every presented key in constant time, so neither a match
nor its position shows in the time of the answer. The middleware refuses by default: everything but `/health` needs a
key, also paths that do not exist.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from pathlib import Path
from typing import NoReturn

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from inference_server.web import errors
from inference_server.web.record import record_of

RELOAD_SECONDS = 10.0
OPEN_PATH = "/health"

logger = structlog.get_logger(__name__)


class AuthSecretInvalid(Exception):  # noqa: N818 - the condition's reason
    """The folder of API keys cannot be used; the text names the file and never a key."""


class ApiKeys:
    """The keys of all tenants.

    Raises:
        AuthSecretInvalid: the folder has no key at all, or a file without one: such a server would lock a tenant out,
            or worse, be taken for an open one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tenants, empty = _read(folder)
        if empty:
            raise AuthSecretInvalid(f"give tenant {empty[0]!r} a key: its entry in {folder} is empty")
        if not self._tenants:
            raise AuthSecretInvalid(f"add an entry to the Secret of API keys: {folder} holds none")

    def tenant(self, key: bytes) -> str | None:
        """Return whose key `key` is."""
        presented = hashlib.sha256(key).digest()
        matched = None
        for digest, tenant in self._tenants.items():
            if hmac.compare_digest(digest, presented):
                matched = tenant
        return matched

    def reload(self) -> None:
        """Take the keys as they are now; a key that is gone opens nothing, even if no other is left."""
        tenants, empty = _read(self._folder)
        if tenants != self._tenants:
            logger.info("API keys reloaded", tenants=len(set(tenants.values())), keys=len(tenants))
            self._tenants = tenants
            if empty or not tenants:
                logger.warning("entries without a key in the Secret of API keys", tenants=empty, keys=len(tenants))

    async def reload_forever(self, seconds: float = RELOAD_SECONDS) -> NoReturn:
        """Reload every `seconds`; the kubelet itself brings a changed Secret within about a minute."""
        while True:
            await asyncio.sleep(seconds)
            try:
                self.reload()
            except OSError as error:
                logger.warning("API keys not reloaded", error=str(error))


class Authentication:
    """ASGI middleware: finds the tenant of each request, or answers 401."""

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its tenant in `scope["state"]`."""
        if scope["type"] == "http" and scope["path"] == OPEN_PATH:
            await self._app(scope, receive, send)
            return
        tenant = self._keys.tenant(_bearer(scope))
        if tenant is None:
            record_of(scope).error_code = "invalid_api_key"
            await errors.unauthenticated().response(scope["path"])(scope, receive, send)
            return
        record_of(scope).tenant = tenant
        await self._app(scope, receive, send)


def _bearer(scope: Scope) -> bytes:
    """Return the presented key; b"" for none, which is nobody's key because keys are never empty."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return b""
    scheme, _, key = values[0].partition(b" ")
    return bytes(key.strip()) if scheme.lower() == b"bearer" else b""


def _read(folder: Path) -> tuple[dict[bytes, str], list[str]]:
    """Return digest -> tenant, and the tenants whose file holds no key.

    Names that begin with ".." are the kubelet's: it swaps a symbolic link to change all entries at once.
    """
    if not folder.is_dir():
        raise AuthSecretInvalid(f"mount the Secret of API keys: {folder} is no folder")
    tenants: dict[bytes, str] = {}
    empty = []
    for file in sorted(folder.iterdir()):
        if file.name.startswith("..") or not file.is_file():
            continue
        keys = [line.strip() for line in file.read_bytes().splitlines() if line.strip()]
        if not keys:
            empty.append(file.name)
        tenants |= {hashlib.sha256(key).digest(): file.name for key in keys}
    return tenants, empty
