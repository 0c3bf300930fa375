"""What one condition says, before it gets its generation and its time of transition."""

from dataclasses import dataclass

from llmservice_operator.conditions import Reason, Status
from llmservice_operator.diagnosis.trouble import Trouble


@dataclass(frozen=True)
class Finding:
    """Status, reason and message of a condition."""

    status: Status
    reason: Reason
    message: str


def bad(trouble: Trouble) -> Finding:
    """Return the finding of a condition that is good when True."""
    return Finding("False", trouble.reason, trouble.message)


def unknown(message: str) -> Finding:
    """Return the finding of a condition that cannot be judged yet."""
    return Finding("Unknown", Reason.NOT_YET_OBSERVED, message)
