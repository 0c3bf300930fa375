"""Quantities as the API server prints them, so that an equal apply changes nothing and a comparison with the live
object is exact.
"""

from collections.abc import Mapping
from decimal import Decimal

from llmservice_operator.schema.quantity import amount

_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = ("m", "", "k", "M", "G", "T", "P", "E")


def canonical(quantity: str) -> str:
    """Return `quantity` in canonical form: "1" for "1000m", "1Gi" for "1024Mi", "1536Mi" for "1.5Gi".

    As `Quantity.CanonicalizeBytes` of k8s.io/apimachinery: the largest suffix that leaves an integer; binary suffixes
    stay binary while at least Ki is left of them. What has none left is read from storage as a decimal number.

    Raises:
        ValueError: it is not a quantity.
    """
    value = amount(quantity)
    if value == 0:
        return "0"
    if quantity.endswith("i") and value % 1024 == 0:
        return _scaled(int(value), 1024, _BINARY)
    return _scaled(int((value * 1000).to_integral_value(rounding="ROUND_UP")), 1000, _DECIMAL)


def canonicals(quantities: Mapping[str, str]) -> dict[str, str]:
    """Return a list of resources with each quantity in canonical form."""
    return {name: canonical(quantity) for name, quantity in quantities.items()}


def larger(one: str, other: str) -> str:
    """Return the larger of two quantities, canonical."""
    return canonical(one if amount(one) >= amount(other) else other)


def _scaled(value: int, base: int, suffixes: tuple[str, ...]) -> str:
    step = 0
    while value % base == 0 and step + 1 < len(suffixes):
        value, step = value // base, step + 1
    return f"{Decimal(value)}{suffixes[step]}"
