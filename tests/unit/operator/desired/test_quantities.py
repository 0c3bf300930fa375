"""Quantities come out as the API server prints them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_operator.desired.quantities import canonical, larger
from llmservice_operator.schema.quantity import amount


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("0.5", "500m"),
        ("1.5", "1500m"),
        ("2", "2"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1000000000", "1G"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1897281.25Ki", "1942816k"),
        ("1000Ki", "1000Ki"),
        ("0.1Gi", "107374182400m"),
        ("0", "0"),
        ("0Gi", "0"),
        ("00.50", "500m"),
        ("1000Gi", "1000Gi"),
        ("2048Ti", "2Pi"),
    ],
)
def test_a_quantity_is_canonical(written: str, printed: str) -> None:
    assert canonical(written) == printed


@given(
    st.integers(0, 10**9), st.sampled_from(["m", "", "k", "M", "Ki", "Mi", "Gi"]), st.sampled_from(["", ".5", ".25"])
)
def test_the_canonical_form_is_its_own_canonical_form(number: int, suffix: str, fraction: str) -> None:
    if suffix == "m":
        fraction = ""
    once = canonical(f"{number}{fraction}{suffix}")
    if once.endswith(("Pi", "Ei", "P", "E")):
        return
    assert canonical(once) == once
    assert amount(once) == amount(f"{number}{fraction}{suffix}")


def test_the_larger_of_two_quantities_is_canonical() -> None:
    assert larger("1024Mi", "900M") == "1Gi"
