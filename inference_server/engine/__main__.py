"""`python -m inference_server.engine --socket-fd N`: the engine process, started by the web process only."""

from __future__ import annotations

import argparse
import socket
import sys

from inference_server.engine.process import run


def main() -> int:
    """Serve the web process at the other end of the inherited socket."""
    parser = argparse.ArgumentParser(prog="python -m inference_server.engine", description=__doc__)
    parser.add_argument("--socket-fd", type=int, required=True, help="inherited end of the socket pair")
    return run(socket.socket(fileno=parser.parse_args().socket_fd))


if __name__ == "__main__":
    sys.exit(main())
