"""Sign requests to S3 as AWS Signature Version 4 wants it.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html. Written out, because what is there either
is a whole SDK with ways of its own to look for credentials, or needs a later Python.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, urlsplit

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Credentials:
    """Who asks."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def query(parameters: Mapping[str, str]) -> str:
    """Return a query in the one form that can be signed: sorted, everything encoded that may be."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(parameters.items()))


def signed(
    url: str,
    credentials: Credentials,
    region: str,
    now: datetime,
    *,
    method: str = "GET",
    sha256: str = EMPTY_SHA256,
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return `headers` with those that sign a request; `sha256` is that of its body, `now` is in UTC.

    The path of `url` is encoded once and its query comes from `query`.
    """
    parts = urlsplit(url)
    date = now.strftime("%Y%m%dT%H%M%SZ")
    told = {**(headers or {}), "x-amz-content-sha256": sha256, "x-amz-date": date}
    if credentials.session_token:
        told["x-amz-security-token"] = credentials.session_token
    lines = sorted((name.lower(), value.strip()) for name, value in {**told, "host": parts.netloc}.items())
    names = ";".join(name for name, _ in lines)
    canonical = [
        method,
        parts.path or "/",
        parts.query,
        *(f"{name}:{value}" for name, value in lines),
        "",
        names,
        sha256,
    ]
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    signature = _hmac(_key(credentials, scope), f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}").hex()
    credential = f"{credentials.access_key_id}/{scope}"
    told["Authorization"] = f"AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={names},Signature={signature}"
    return told


def _key(credentials: Credentials, scope: str) -> bytes:
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
