"""Work that goes on side by side."""

from __future__ import annotations

import asyncio

import pytest

from inference_server.together import run_together


class BrokenError(Exception):
    """A failure with a name of its own."""


async def test_a_failure_comes_out_as_it_is_and_ends_the_rest() -> None:
    ended: list[str] = []

    async def fail() -> None:
        raise BrokenError

    async def go_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("the rest")

    with pytest.raises(BrokenError):
        await run_together(run_together(fail(), go_on()), go_on())
    assert ended == ["the rest", "the rest"]
