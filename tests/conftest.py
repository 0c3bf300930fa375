"""What holds for every test: warnings are errors, and so is the error of a task that nobody asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_error_of_a_task_is_lost(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail on what asyncio logs when it collects such a task, which may be one of an earlier test."""
    yield
    records = [record for when in ("setup", "call") for record in caplog.get_records(when)]
    lost = [record for record in records if record.name == "asyncio" and "never retrieved" in record.getMessage()]
    if lost:
        raise AssertionError(lost[0].getMessage()) from (lost[0].exc_info or (None, None))[1]
