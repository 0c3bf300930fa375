"""Kubernetes quantities: amounts of cpu, memory and metrics, written as "500m" or "1.5Gi".

Only what the CRD's patterns admit is read here; exponents ("1e3") are left out of the API.
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from llmservice_operator.schema.rules import Rule

_SUFFIXES = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
}
_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"


def amount(quantity: str) -> Decimal:
    """Return a quantity as a number: cores, bytes, or the metric's own unit.

    Raises:
        ValueError: `quantity` is not written as a number with one of the suffixes m, k, M, G, T, Ki, Mi, Gi, Ti.
    """
    if re.fullmatch(_PATTERN, quantity) is None:
        raise ValueError(f"{quantity!r} is not a quantity such as 500m, 2 or 1.5Gi")
    number = quantity.rstrip("mkMGTKi")
    return Decimal(number) * _SUFFIXES[quantity[len(number) :]]


def _written(value: Any) -> Any:
    """Return a whole number as the text it stands for: YAML reads `cpu: 2` as a number, and the API server stores it
    so."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _int_or_string(schema: dict[str, Any]) -> None:
    schema.pop("type")
    schema["x-kubernetes-int-or-string"] = True
    schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    # For the integers; a string is held to the pattern.
    schema["minimum"] = 0


Quantity = Annotated[
    str, Field(max_length=32, pattern=_PATTERN, json_schema_extra=_int_or_string), BeforeValidator(_written)
]
"""A number or text such as 2, "500m" or "1.5Gi"; text inside."""

PositiveQuantity = Annotated[
    Quantity,
    Rule(
        "quantity(string(self)).isGreaterThan(quantity('0'))",
        "the target must be more than 0",
        holds=lambda self: amount(self) > 0,
    ),
]
