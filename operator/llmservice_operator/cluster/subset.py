"""Is a desired body already what stands in the cluster? Asked once per child after a restart, when there is no digest
to compare.

The live object has more: defaults, fields of other managers, the server's own. So every desired field must be there
with an equal value, and anything else may be there too.
"""

from decimal import Decimal, InvalidOperation
from typing import Any, Final

_QUANTITY_FIELDS: Final = frozenset({"requests", "limits", "sizeLimit", "averageValue"})
_MERGE_KEYS: Final = (("name",), ("uid",), ("containerPort", "protocol"), ("port", "protocol"), ("type",))
_SUFFIXES: Final = {
    **{suffix: Decimal(1000) ** power for suffix, power in zip(("n", "u", "m"), (-3, -2, -1), strict=True)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


def is_subset(desired: Any, live: Any, *, quantities: bool = False) -> bool:
    """Return whether every field of `desired` is in `live` with an equal value.

    `quantities` says that scalars here are Kubernetes quantities, which the server prints in its own canonical form.
    """
    if isinstance(desired, dict):
        return _is_empty(desired, live) or (
            isinstance(live, dict)
            and all(
                is_subset(value, live.get(field), quantities=quantities or field in _QUANTITY_FIELDS)
                for field, value in desired.items()
            )
        )
    if isinstance(desired, list):
        return _is_empty(desired, live) or (
            isinstance(live, list) and _is_list_subset(desired, live, quantities=quantities)
        )
    return bool(desired == live) or (quantities and _quantity(desired) == _quantity(live) is not None)


def _is_empty(desired: Any, live: Any) -> bool:
    """The server stores an empty map or list as absent."""
    return not desired and not live


def _is_list_subset(desired: list[Any], live: list[Any], *, quantities: bool) -> bool:
    """Match the items of an associative list by key, those of any other list by position."""
    for keys in _MERGE_KEYS:
        if all(isinstance(item, dict) and keys[0] in item for item in [*desired, *live]):
            by_key = {tuple(item.get(key) for key in keys): item for item in live}
            if len(by_key) == len(live):
                return all(
                    is_subset(item, by_key.get(tuple(item.get(key) for key in keys)), quantities=quantities)
                    for item in desired
                )
    return len(desired) == len(live) and all(
        is_subset(wanted, found, quantities=quantities) for wanted, found in zip(desired, live, strict=True)
    )


def _quantity(value: Any) -> Decimal | None:
    """Return the number behind a quantity ("1Gi", "500m", 2), or None for anything else."""
    text = str(value)
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if text.endswith(suffix):
            text, factor = text[: -len(suffix)], _SUFFIXES[suffix]
            break
    else:
        factor = Decimal(1)
    try:
        return Decimal(text) * factor
    except InvalidOperation:
        return None
