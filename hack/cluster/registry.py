"""The registry that the images are pushed to and the node pulls from: both move only the layers that changed.

Its storage lives in the cache, so an image that was pushed once need not be pushed again after `down`.
"""

import json
from pathlib import Path

from cluster import layout, packages
from cluster.daemon import Daemon
from cluster.runtime import REGISTRY


def daemon() -> Daemon:
    """Return the registry, its configuration written."""
    configuration = layout.STATE / "registry.json"
    storage().mkdir(parents=True, exist_ok=True)
    # JSON is YAML, which is what the registry reads.
    configuration.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "warn", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(storage())}, "delete": {"enabled": True}},
                "http": {"addr": REGISTRY.replace("localhost", "127.0.0.1")},
            }
        )
    )
    return Daemon("registry", (str(packages.path_of("docker-registry")), "serve", str(configuration)))


def storage() -> Path:
    """Return where the local registry keeps its layers."""
    return layout.cache() / "registry"
