"""The clock on the wall, as the operator reads it in the test's own process; a test may turn it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from typing import Self

import pytest

from llmservice_operator import process
from llmservice_operator.cluster import election


class WallClock:
    """How far the clock is ahead of the right time."""

    ahead = timedelta()


@contextmanager
def wall_clock() -> Iterator[WallClock]:
    """Let the test turn the clock while the body runs."""
    clock = WallClock()

    class Turned(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + clock.ahead

    with pytest.MonkeyPatch.context() as patch:
        for module in (process, election):
            patch.setattr(module, "datetime", Turned)
        yield clock
