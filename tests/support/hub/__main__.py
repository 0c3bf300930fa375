"""Serve a folder of models as a hub: python3 -m tests.support.hub --root FOLDER [--port 8080]."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from tests.support.hub.faults import Fault, Faults
from tests.support.hub.repository import repositories, snapshot
from tests.support.hub.server import Hub, server


def main() -> int:
    parser = argparse.ArgumentParser(description="A small model hub that speaks the Hugging Face protocol.")
    parser.add_argument("--root", type=Path, required=True, help="folder of models: OWNER/NAME/[REVISION/]FILES")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--gated", action="append", default=[], metavar="OWNER/NAME=TOKEN")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND[:PATTERN[:TIMES]]", type=Fault.parse)
    arguments = parser.parse_args()
    gated = dict(entry.split("=", 1) for entry in arguments.gated)
    hub = Hub(arguments.root, gated, Faults(tuple(arguments.fault)))
    for repo in repositories(arguments.root):
        # Digests are computed before the port opens, so that the first client does not wait for them.
        found = snapshot(arguments.root, repo, "main")
        sys.stdout.write(f"serving {repo} {found.commit if found else 'without a main'}\n")
    with server(hub, arguments.host, arguments.port) as bound:
        # shutdown() waits for the serving loop, which runs in this very thread.
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=bound.shutdown).start())
        bound.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
