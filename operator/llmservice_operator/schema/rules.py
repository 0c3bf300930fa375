"""The base of every structure of the API, and rules that are checked twice: in CEL by the API server, in Python by us.

The API server refuses a bad object at once and says why; the Python twin guards the renderer against objects stored
under an older CRD. Both stand side by side in one `Rule`, and one corpus of good and bad objects is run against both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """One rule of the API: an annotation of a field's type, or an entry of `Structure.rules`.

    `cel` is the rule as the API server evaluates it (`self` is the annotated value), `holds` the same in Python,
    `message` what a user reads: the field, what is wrong with it, the way out. `field_path` moves the complaint to a
    field below `self`.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field_path: str | None = None

    def manifest(self) -> dict[str, Any]:
        """Return the rule as an entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": self.message}
        return entry if self.field_path is None else {**entry, "fieldPath": self.field_path}

    def check(self, value: Any) -> Any:
        """Return `value` as it is.

        Raises:
            PydanticCustomError: the rule does not hold; pydantic adds where.
        """
        if not self.holds(value):
            raise PydanticCustomError("rule", "{message}", {"message": self.message})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return with_rules(handler(schema), (self,))


def with_rules(json_schema: dict[str, Any], rules: tuple[Rule, ...]) -> dict[str, Any]:
    """Return `json_schema` with `rules` added to those it has."""
    entries = [*json_schema.get(VALIDATIONS, []), *(rule.manifest() for rule in rules)]
    return {**json_schema, VALIDATIONS: entries}


class Structure(BaseModel):
    """An object of the API: immutable, camelCase outside and snake_case inside.

    Unknown fields are ignored, because an object may have been stored by a newer version; the API server warns of, or
    in strict mode refuses, what a user misspells.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        for rule in self.rules:
            rule.check(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        json_schema = handler.resolve_ref_schema(handler(schema))
        if cls.rules:
            json_schema[VALIDATIONS] = [rule.manifest() for rule in cls.rules]
        return json_schema
