"""Lines that show a person what the tool does, also while one step takes minutes."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

HEARTBEAT_SECONDS = 15.0


def say(message: str) -> None:
    """Print one line to standard error, so that standard output stays for results."""
    print(message, file=sys.stderr, flush=True)


@dataclass
class Step:
    """A step that is under way; who runs it may say in `detail` where it has got to."""

    detail: str = ""


@contextmanager
def step(what: str, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> Iterator[Step]:
    """Announce `what`, repeat it with the elapsed time while the body runs, and say how long it took."""
    current = Step()
    started = time.monotonic()
    done = threading.Event()

    def beat() -> None:
        while not done.wait(heartbeat_seconds):
            where = f" ({current.detail})" if current.detail else ""
            say(f"  ... {what}: {time.monotonic() - started:.0f} s so far{where}")

    say(f"{what} ...")
    ticker = threading.Thread(target=beat, daemon=True)
    ticker.start()
    finished = False
    try:
        yield current
        finished = True
    finally:
        done.set()
        ticker.join()
        say(f"{what}: {'done in' if finished else 'stopped after'} {time.monotonic() - started:.1f} s")
