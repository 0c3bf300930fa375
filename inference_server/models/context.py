"""How many tokens a sequence may have: what the model has learned, what is asked for, a cap where nobody asks."""

from __future__ import annotations

from inference_server.engine.interface import LoadFailure

CONTEXT_CAP = 8192
"""Context used when nobody says: what models can do at most costs more memory than most services want."""
CONFIGURATION = 78


def usable_context(context: int, wanted: int | None) -> int:
    """Return the limit of prompt plus completion in tokens: as wanted, else the model's own up to a cap.

    Raises:
        LoadFailure: more is wanted than the model has learned.
    """
    if wanted is None:
        return min(context, CONTEXT_CAP)
    if wanted > context:
        message = f"set maxModelLen to {context} or less: {wanted} was asked for, the model's context is {context}"
        raise LoadFailure(message, reason="ContextTooLong", exit_code=CONFIGURATION)
    return wanted
