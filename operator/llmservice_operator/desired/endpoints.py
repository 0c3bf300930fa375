"""Which addresses a spec may have a model fetched from. The warm-up asks the same of every redirect."""

from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_allowed(url: str, endpoints: Iterable[str]) -> bool:
    """Whether `url` lies below one of `endpoints`, whose path counts too."""
    folders = unquote(urlsplit(url).path).split("/")
    # What a server makes of dots is its own affair, so a path that has them lies below no other.
    return ".." not in folders and any(_is_below(url, folders, endpoint) for endpoint in endpoints)


def _is_below(url: str, folders: list[str], endpoint: str) -> bool:
    above = urlsplit(endpoint).path.rstrip("/").split("/")
    return _origin(url) == _origin(endpoint) and folders[: len(above)] == above


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme)
