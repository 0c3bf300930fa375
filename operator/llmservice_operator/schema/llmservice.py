"""The parsed LLMService: what the API server stores, as values that the decisions work on."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationError

from llmservice_operator import names
from llmservice_operator.schema.rules import Structure
from llmservice_operator.schema.spec import Spec

LONGEST_VALUE: Final = 253
"""Characters of an annotation that count as they are: more than any time or name needs."""


class InvalidLLMService(ValueError):  # noqa: N818 - it names what is wrong, as the errors of the standard library do
    """A stored LLMService that does not fit the schema; the message names the fields and what is wrong with them."""


def bounded(value: str) -> str:
    """Return an annotation's value as it is, or one too long to be copied by its beginning and its hash.

    Values go into annotations of children, and the API server refuses an object with more than 256 KiB of them.
    """
    if len(value) <= LONGEST_VALUE:
        return value
    return f"{value[:LONGEST_VALUE]}… {names.short_hash(value)}"


class Metadata(Structure):
    """The part of the metadata that decisions depend on."""

    name: str
    namespace: str
    uid: str
    generation: int = 1
    annotations: dict[str, Annotated[str, AfterValidator(bounded)]] = Field(default_factory=dict)
    deletion_timestamp: datetime | None = None
    managed_fields: tuple[dict[str, Any], ...] = ()
    """Only the entries with fields that the spec does not have."""


class LLMService(Structure):
    """One LLMService with every default of the schema in place. `status` is what was reported last, as it was
    written."""

    metadata: Metadata
    spec: Spec
    status: dict[str, Any] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def uid(self) -> str:
        return self.metadata.uid

    @property
    def generation(self) -> int:
        return self.metadata.generation


def parse(raw: Mapping[str, Any]) -> LLMService:
    """Return an LLMService as the API server gives it in typed form.

    Raises:
        InvalidLLMService: a field is missing or has a value that the schema refuses, as an object stored under an older
        CRD can.
    """
    try:
        return LLMService.model_validate(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidLLMService("; ".join(_fault(fault["loc"], fault["msg"]) for fault in faults)) from error


def _fault(location: tuple[int | str, ...], message: str) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{path.lstrip('.')}: {message}"
