"""Work that goes on side by side until one piece of it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def run_together(*works: Coroutine[Any, Any, None]) -> None:
    """Run all of it; when one fails, cancel the others and raise its failure as it is, not in a group.

    Not with `except*`: what is raised in there, Python 3.11.2 of Debian 12 puts into a group again, and nobody would
    know its reason any more.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(work)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
