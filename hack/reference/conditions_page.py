"""docs/conditions.md: every condition and reason, with cause, fix and a command to look closer."""

from llmservice_operator.conditions import REASONS, ConditionType, Phase, Reason, Status
from reference.explanations import MEANINGS, REASON_EXPLANATIONS, WARNING_EXPLANATIONS, Explanation

_INTRODUCTION = """\
# Conditions and reasons

What `kubectl describe llmservice NAME` shows under Conditions. A message begins with what to do. Alert on types and
reasons: they are part of the API and stay. This page is generated from the code.

Wait for a model with `kubectl wait --for=condition=Ready llmservice/NAME --timeout=30m`. For programs:
`Ready` says whether the desired state is reached, `Serving` whether requests are answered, `Stalled` whether somebody
must act. `Reconciling` and `Stalled` exist only while they are true. `Degraded` and `Paused` are abnormal when true.

In the commands, NAME is the LLMService and `-n NAMESPACE` is left out.
"""

_BORROWING = (ConditionType.READY, ConditionType.STALLED)
"""Conditions that repeat the reason of another one, which explains it."""


def render() -> str:
    """Return the page."""
    phases = ", ".join(f"`{phase}`" for phase in Phase)
    sections = [_section(condition_type) for condition_type in ConditionType]
    phase = f"\n## The phase\n\nFor people only, in `status.phase`: {phases}.\n"
    return f"{_INTRODUCTION}{''.join(sections)}{_warnings()}{phase}"


def _warnings() -> str:
    rows = [_cells(f"`{reason}`", *_told(explanation)) for reason, explanation in WARNING_EXPLANATIONS.items()]
    return (
        "\n## Warnings\n\nWhat is odd and holds nothing back stands in `status.warnings` for as long as it is so, and "
        "one event of type Warning tells it.\n\n| reason | cause | fix | look closer |\n|---|---|---|---|\n"
        + "".join(rows)
    )


def _section(condition_type: ConditionType) -> str:
    rows = [
        _row(status, reason)
        for status, reasons in REASONS[condition_type].items()
        for reason in reasons
        if not _is_borrowed(condition_type, reason)
    ]
    borrowed = any(
        _is_borrowed(condition_type, reason) for reasons in REASONS[condition_type].values() for reason in reasons
    )
    note = (
        "\nBesides, the reason of what holds it back: of `ConfigurationValid`, `ModelCached`, `Scheduled`, "
        "`Verified` or `Degraded`, explained there.\n"
    )
    table = "\n| status | reason | cause | fix | look closer |\n|---|---|---|---|---|\n" + "".join(rows) if rows else ""
    return f"\n## {condition_type}\n\n{MEANINGS[condition_type]}\n{table}{note if borrowed else ''}"


def _row(status: Status, reason: Reason) -> str:
    return _cells(status, f"`{reason}`", *_told(REASON_EXPLANATIONS[reason]))


def _told(explanation: Explanation) -> tuple[str, str, str]:
    command = f"`{explanation.command}`" if explanation.command else ""
    return explanation.cause, explanation.fix, command


def _cells(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _is_borrowed(condition_type: ConditionType, reason: Reason) -> bool:
    return condition_type in _BORROWING and reason in REASONS[ConditionType.STALLED]["True"]
