"""What can go wrong at a hub, switched on for the files a test names."""

import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

Kind = Literal["not-found", "forbidden", "throttled", "unavailable", "cut", "truncated", "corrupt"]

STATUS: dict[Kind, int] = {"not-found": 404, "forbidden": 403, "throttled": 429, "unavailable": 503}


@dataclass(frozen=True)
class Fault:
    """`kind` befalls requests whose path matches `pattern`, the next `times` times (None: always).

    not-found, forbidden, throttled, unavailable answer with that status; cut closes the connection half-way through the
    body; truncated sends half of the file as if it were all of it; corrupt changes one byte and nothing else.
    """

    kind: Kind
    pattern: str = "*"
    times: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Read KIND[:PATTERN[:TIMES]], for the command line."""
        kind, _, rest = text.partition(":")
        pattern, _, times = rest.partition(":")
        matching = [known for known in get_args(Kind) if known == kind]
        if not matching:
            raise ValueError(f"no fault {kind!r}; there are {', '.join(get_args(Kind))}")
        return cls(matching[0], pattern or "*", int(times) if times else None)


class Faults:
    """The faults that are switched on; asked once for each request, from any thread."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._armed: list[tuple[Fault, int | None]] = [(fault, fault.times) for fault in faults]

    def arm(self, fault: Fault) -> None:
        with self._lock:
            self._armed.append((fault, fault.times))

    def clear(self) -> None:
        with self._lock:
            self._armed.clear()

    def strike(self, path: str) -> Kind | None:
        """Return what befalls a request for `path`, and count it."""
        with self._lock:
            for index, (fault, left) in enumerate(self._armed):
                if left == 0 or not fnmatchcase(path, fault.pattern):
                    continue
                self._armed[index] = (fault, None if left is None else left - 1)
                return fault.kind
        return None
