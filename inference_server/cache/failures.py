"""Why a warm-up fails, in the words of conditions.md, and what that means for whoever might repeat it."""

from __future__ import annotations

from typing import Literal, get_args

Incurable = Literal[
    "ModelNotFound",
    "RevisionNotFound",
    "AccessDenied",
    "EndpointNotAllowed",
    "UnsafeFiles",
    "ModelInvalid",
    "ModelUnsupported",
    "QuantizationConflict",
    "SecretKeyInvalid",
]
"""A second try gives the same answer: the Job fails at once, with exit code 65."""
Transient = Literal["HubUnreachable", "Throttled", "DigestMismatch", "CacheFull", "VolumeUnusable", "WarmupFailed"]
"""Worth a retry: exit code 75, and the Job counts it against its limit."""
Reason = Incurable | Transient


class WarmupFailure(Exception):  # noqa: N818 - what the termination message calls it
    """The model cannot be cached; the text begins with what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason

    @property
    def may_pass(self) -> bool:
        """Whether repeating may help."""
        return self.reason not in get_args(Incurable)

    @property
    def exit_code(self) -> int:
        return 75 if self.may_pass else 65
