"""Where the tool keeps things: the checkout, the cache that outlives `down`, and the state that does not."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = Path(__file__).resolve().parent / "tools"

# One node per machine, so its state has one fixed place; the same name marks its namespace and cgroups.
NODE_NAME = "llmservice"
STATE = Path("/var/lib/llmservice-cluster")


def cache() -> Path:
    """Return the folder of what is costly to make again: binaries, image stores, the registry's storage."""
    configured = os.environ.get("LLMSERVICE_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "llmservice"
