"""Run a command that says nothing for minutes, and say every few seconds that it still runs.

python3 hack/heartbeat.py WHAT COMMAND [ARGUMENT ...]
"""

import subprocess
import sys

from cluster.progress import step

if __name__ == "__main__":
    what, *command = sys.argv[1:]
    with step(what):
        status = subprocess.run(command, check=False).returncode
    sys.exit(status)
