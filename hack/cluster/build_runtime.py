#!/usr/bin/env python3
"""Stands in front of runc while images are built, and hands each build step variables that no image keeps.

buildah can give a step a file of this machine but not a variable, short of an ARG in every Dockerfile; a package
index with a certificate authority of its own needs both. Called as runc would be, for a step that begins.
"""

import json
import os
import sys
from pathlib import Path

VARIABLES = "LLMSERVICE_BUILD_VARIABLES"
RUNC = "LLMSERVICE_BUILD_RUNC"


def main() -> None:
    """Add the variables to the step's configuration and become runc."""
    arguments = sys.argv[1:]
    if "--bundle" in arguments and "create" in arguments:
        path = Path(arguments[arguments.index("--bundle") + 1]) / "config.json"
        config = json.loads(path.read_text())
        config["process"].setdefault("env", []).extend(json.loads(os.environ.get(VARIABLES, "[]")))
        path.write_text(json.dumps(config))
    runc = os.environ[RUNC]
    os.execv(runc, [runc, *arguments])  # noqa: S606 - becomes runc


if __name__ == "__main__":
    main()
