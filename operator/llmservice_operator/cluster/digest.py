"""What we own of an object, as the API server sees it: the fingerprint by which a foreign edit is noticed.

With server-side apply the server keeps, per field manager, the set of fields it owns. Whoever changes or removes a
field of ours takes it out of our set; whoever adds a field does not touch it. So an unchanged set means that our fields
are as we left them.
"""

import hashlib
import json
from typing import Any


def owned_fields(manifest: dict[str, Any], field_manager: str) -> dict[str, Any] | None:
    """Return the set of fields that `field_manager` applied and still owns (`fieldsV1`), or None where it owns none.

    Times are left out: they move without any change. A status apply of the same manager would be an entry of its own.
    """
    for entry in manifest.get("metadata", {}).get("managedFields", ()):
        if entry.get("manager") == field_manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            return dict(entry.get("fieldsV1", {}))
    return None


def of(value: Any) -> str:
    """Return the digest of a JSON value, whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
