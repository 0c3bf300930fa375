"""Which addresses a warm-up may talk to: those on the administrator's list, redirects included.

Whoever may write an LLMService chooses path and query of a URL, and with them where an open redirect leads: off the
list, to the cluster's internal addresses.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or DEFAULT_PORTS.get(parts.scheme)


def is_allowed(url: str, endpoints: Iterable[str]) -> bool:
    """Whether `url` lies below one of `endpoints`, whose path counts too. One that is none lies nowhere."""
    try:
        folders = unquote(urlsplit(url).path).split("/")
        # What a server makes of dots is its own affair, so a path that has them lies below no other.
        return ".." not in folders and any(_is_below(url, folders, endpoint) for endpoint in endpoints)
    except ValueError:
        return False


def _is_below(url: str, folders: list[str], endpoint: str) -> bool:
    above = urlsplit(endpoint).path.rstrip("/").split("/")
    return origin(url) == origin(endpoint) and folders[: len(above)] == above
