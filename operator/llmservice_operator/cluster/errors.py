"""What a request to the API server can end in, as types that callers act on."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple


class ApiError(Exception):
    """The API server answered with an error, or not at all.

    `status` is the HTTP status, 0 where there was no answer; `reason` is the `Status` object's reason.
    """

    def __init__(self, message: str, *, status: int = 0, reason: str = "", retry_after_seconds: float | None = None):
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class NotFoundError(ApiError):
    """404: no such object, or no such kind."""


class ConflictError(ApiError):
    """409: the object is not what the request expected (uid, resourceVersion, exists already)."""


class GoneError(ApiError):
    """410: the resourceVersion is too old to list or watch from."""


class InvalidError(ApiError):
    """400 or 422: the body is refused and will be refused again."""


class MissingRight(NamedTuple):
    """What the operator's roles do not allow."""

    verb: str
    resource: str
    """The plural with its group, as "deployments.apps"; a subresource follows a slash."""


class ForbiddenError(ApiError):
    """403: rights, quota or an admission plug-in."""

    @property
    def missing_right(self) -> MissingRight | None:
        """The right that is missing; None where quota or an admission plug-in refused."""
        found = _MISSING_RIGHT.search(self.message)
        if found is None:
            return None
        resource, slash, subresource = found["resource"].partition("/")
        group = f".{found['group']}" if found["group"] else ""
        return MissingRight(found["verb"], f"{resource}{group}{slash}{subresource}")


class UnauthorizedError(ApiError):
    """401: the credentials are missing or too old."""


class BusyError(ApiError):
    """429, 5xx, a timeout or a broken connection: the same request may succeed later."""


class NotLeadingError(ApiError):
    """Not sent: another replica may hold the Lease by now."""


_MISSING_RIGHT: Final = re.compile(
    r'^(?:\S+(?: "[^"]*")? is forbidden: )?User "[^"]*" cannot (?P<verb>\S+) '
    r'resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
)
"""How the API server's authorizer words a refusal; it says the verb nowhere else."""
LONGEST_RETRY_AFTER_SECONDS: Final = 60.0

_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
}


def from_status(status: int, body: Any, headers: Mapping[str, str]) -> ApiError:
    """Return the error of an answer; `body` is the decoded `Status` object, or whatever a proxy on the way said."""
    details = body if isinstance(body, dict) else {}
    message = str(details.get("message") or f"HTTP status {status}")
    kind = _BY_STATUS.get(status, BusyError if status == 429 or status >= 500 else ApiError)
    return kind(
        message,
        status=status,
        reason=str(details.get("reason") or ""),
        retry_after_seconds=_seconds(headers.get("Retry-After")),
    )


def _seconds(retry_after: str | None) -> float | None:
    """Return the delay of a Retry-After header; the API server sends a few seconds, never a date.

    It holds back every request of ours, so a proxy's hour is not taken at its word.
    """
    if retry_after is None or not (retry_after.isascii() and retry_after.isdecimal()):
        return None
    return min(LONGEST_RETRY_AFTER_SECONDS, float(retry_after))
