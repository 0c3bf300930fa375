"""The campaign changes every leaf field: one that is new has no values yet, and is named here."""

import pytest

from tests.campaign.field_values import VALUES, WITHOUT_VALUES, Set
from tests.campaign.fields import SIX_LINES, Edit, edits, leaves


def test_every_leaf_field_has_values() -> None:
    assert set(leaves()) == set(VALUES) | WITHOUT_VALUES


def test_every_field_with_values_is_changed_to_at_least_one_of_them() -> None:
    changed = {edit.path for edit in edits() if edit.of(SIX_LINES)}
    assert changed == set(VALUES)


@pytest.mark.parametrize("path", sorted(WITHOUT_VALUES))
def test_a_field_without_values_can_have_none(path: str) -> None:
    target, _, name = path.rpartition(".")
    kind = {"averageUtilization": "Utilization", "value": "Value"}[name]
    others = {f"{target}.{other}": None for other in ("averageUtilization", "averageValue", "value") if other != name}
    assert Edit(path, Set(80, together={f"{target}.type": kind, **others})).of(SIX_LINES) is None


def test_a_change_leaves_the_spec_that_it_starts_from_alone() -> None:
    before = repr(SIX_LINES)
    assert all(edit.of(SIX_LINES) != SIX_LINES for edit in edits())
    assert repr(SIX_LINES) == before


def test_a_source_takes_the_place_of_the_other() -> None:
    changed = Edit("model.source.pvc.path", Set("acme")).of(SIX_LINES)
    assert changed == {"model": {"source": {"pvc": {"claimName": "models", "path": "acme"}}}}
