"""Did somebody change what an LLMService asks for? Then they wait for it, and it goes before all that nobody waits for.

A new LLMService is no edit: a thousand that are created at once would have every edit wait behind them.
"""

from llmservice_operator import names
from llmservice_operator.cluster.store import Entry
from llmservice_operator.manifest import Manifest


def is_edit(before: Entry | None, after: Entry) -> bool:
    """Return whether an LLMService asks for something else than before.

    One that is seen for the first time, as after a restart, tells it by its status, which is of an earlier generation.
    """
    now = after.manifest
    if before is not None:
        return _asked(before.manifest) != _asked(now)
    observed = now.get("status", {}).get("observedGeneration", 0)
    return observed not in (0, now["metadata"]["generation"])


def _asked(llmservice: Manifest) -> tuple[str, int, Manifest]:
    """Return what changes with each edit: the spec by its generation, and the annotations that ask for something."""
    meta = llmservice["metadata"]
    annotations = meta.get("annotations", {})
    ours = {name: value for name, value in annotations.items() if name.startswith(f"{names.GROUP}/")}
    return meta["uid"], meta["generation"], ours
