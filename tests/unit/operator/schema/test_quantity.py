"""Quantities as numbers."""

from decimal import Decimal

import pytest

from llmservice_operator.schema.quantity import amount


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("0", Decimal(0)),
        ("2", Decimal(2)),
        ("500m", Decimal("0.5")),
        ("1.5Gi", Decimal(1610612736)),
        ("3k", Decimal(3000)),
        ("1M", Decimal(10**6)),
        ("1Ki", Decimal(1024)),
        ("2Ti", Decimal(2 * 2**40)),
    ],
)
def test_a_quantity_is_its_number_times_its_suffix(quantity: str, number: Decimal) -> None:
    assert amount(quantity) == number


@pytest.mark.parametrize("text", ["", "-1", "1e3", "10XB", "Gi", "1.Gi", "1 Gi", "1Gi\n"])
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity such as"):
        amount(text)
