"""What a part of the soak found: its figures, and in words whatever is not as it must be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Report:
    """`figures` go into the last line of `make soak`; a part without `findings` has passed."""

    figures: dict[str, float] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Write `otherwise` down unless `holds`."""
        if not holds:
            self.findings.append(otherwise)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest of `values` that `share` of them do not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
