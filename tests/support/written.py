"""What the API server carried out of an operator's writes, as far as it can cost somebody something."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Manifest = dict[str, Any]


@dataclass
class Written:
    """Counts by what was written; refused writes are left out."""

    created: Counter[str] = field(default_factory=Counter)
    destroyed: Counter[str] = field(default_factory=Counter)
    """Deletions, replicas made fewer, and pod templates exchanged, each of which ends pods or loses data."""

    def note(self, verb: str, target: str, before: Manifest | None, status: int, answer: Any) -> None:
        """Keep what came of a request; `before` is the Deployment that it changes, if it is about one."""
        if status >= 300 or target.startswith(("events/", "leases/")):
            return
        if status == 201:
            self.created[target] += 1
        if verb == "delete":
            self.destroyed[f"delete {target}"] += 1
        if before is not None:
            self._compare(target, before["spec"], json.loads(answer)["spec"])

    def _compare(self, target: str, before: Manifest, now: Manifest) -> None:
        if now["replicas"] < before["replicas"]:
            self.destroyed[f"{target} from {before['replicas']} replicas to {now['replicas']}"] += 1
        if now["template"] != before["template"]:
            self.destroyed[f"another template in {target}"] += 1
