"""Who has the machine's one node: a second checkout is told instead of sharing or breaking it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster import daemon, layout
from cluster.lock import exclusive
from cluster.trouble import Trouble

_MUTEX = Path("/run/lock/llmservice-cluster.lock")


@dataclass(frozen=True)
class Holder:
    """The checkout that started the node, the process that stands for it, and since when."""

    checkout: str
    pid: int
    since: str

    @property
    def is_this_checkout(self) -> bool:
        """Tell whether it is the checkout this file belongs to."""
        return self.checkout == str(layout.CHECKOUT)


def current() -> Holder | None:
    """Return who has the node; a record whose node has died counts as nobody."""
    try:
        holder = Holder(**json.loads((layout.STATE / "holder.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return holder if daemon.running() else None


def claim(pid: int) -> None:
    """Write down that this checkout has the node and that process `pid` stands for it."""
    layout.STATE.mkdir(parents=True, exist_ok=True)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    (layout.STATE / "holder.json").write_text(json.dumps(asdict(Holder(str(layout.CHECKOUT), pid, since))))


@contextmanager
def alone(*, even_if_held: bool = False) -> Iterator[None]:
    """Keep every other run of the tool from starting or stopping the node meanwhile.

    Raises:
        Trouble: another checkout has the node, unless `even_if_held`.
    """
    with exclusive(_MUTEX, "it starts or stops the node"):
        holder = current()
        if holder is not None and not holder.is_this_checkout and not even_if_held:
            raise Trouble(
                f"the node of this machine belongs to the checkout {holder.checkout} (process {holder.pid}, since "
                f"{holder.since}).\nStop it there with `make cluster-down`, or here with: "
                f"python3 hack/cluster/main.py down --force"
            )
        yield
