"""`status.warnings`: what is odd about an LLMService and holds nothing back, for as long as it is so."""

import difflib
from collections.abc import Iterator

from llmservice_operator import names
from llmservice_operator.conditions import WarningReason, shortened
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from llmservice_operator.schema.unknown_fields import unknown_fields

_NAMED = 3
"""How many of many one message names."""


def warnings(llmservice: LLMService) -> list[Manifest] | None:
    """Return the field of the status; None where nothing is odd."""
    found = (
        (WarningReason.UNKNOWN_ANNOTATION, _unknown_annotations(llmservice)),
        (WarningReason.UNKNOWN_FIELD, _unknown_fields(llmservice)),
        (WarningReason.OPEN_TO_EVERYBODY, _open_to_everybody(llmservice)),
    )
    return [
        {"reason": reason.value, "message": shortened(message)} for reason, messages in found for message in messages
    ] or None


def _unknown_annotations(llmservice: LLMService) -> Iterator[str]:
    prefix = f"{names.GROUP}/"
    ours = {name for name in llmservice.metadata.annotations if name.startswith(prefix)}
    unknown = ours - set(names.PEOPLES_ANNOTATIONS)
    if unknown:
        known = [name.removeprefix(prefix) for name in names.PEOPLES_ANNOTATIONS]
        close = difflib.get_close_matches(min(unknown).removeprefix(prefix), known, n=1)
        advice = f"did you mean {prefix}{close[0]}?" if close else f"it knows {', '.join(names.PEOPLES_ANNOTATIONS)}"
        yield f"Correct or remove annotations that the operator does not know: {_first(unknown)}; {advice}"


def _unknown_fields(llmservice: LLMService) -> Iterator[str]:
    unknown = {field for entry in llmservice.metadata.managed_fields for field in unknown_fields(entry)}
    if unknown:
        yield f"Leave out fields that this version of the operator does not have and ignores: {_first(unknown)}"


def _open_to_everybody(llmservice: LLMService) -> Iterator[str]:
    service, auth = llmservice.spec.service, llmservice.spec.auth
    if service.type != "ClusterIP" and auth is not None and auth.mode == "Anonymous":
        yield (
            "Set spec.auth.mode to APIKey unless everybody may ask this model: with mode Anonymous the Service of "
            f"type {service.type} answers whoever reaches it"
        )


def _first(values: set[str]) -> str:
    named = ", ".join(sorted(values)[:_NAMED])
    others = len(values) - _NAMED
    return f"{named} and {others} more" if others > 0 else named
