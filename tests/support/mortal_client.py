"""The operator's client with a moment of death: right before or right after one of its writes, as SIGKILL has it.

with mortal_operators(), living(Death(write=3, moment="after")) as life:
    ...  # run an operator; once life.is_over is set it does nothing any more, and a successor may start
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

import pytest

from llmservice_operator import process
from llmservice_operator.cluster import errors
from llmservice_operator.cluster.client import Client

Moment = Literal["before", "after"]


@dataclass(frozen=True)
class Death:
    """Before or after the write of this number, the first being 1, that comes after the life is armed."""

    write: int
    moment: Moment


@dataclass
class Life:
    """Of one operator and, after its death, of its successors, which live on."""

    death: Death | None
    is_armed: bool = False
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    """The operator has died; cleared for the next one."""
    writes: int = 0
    """Since it was armed, those of successors too."""
    has_died: bool = False
    created: Counter[str] = field(default_factory=Counter)
    """How often an object was created, by its path without the namespace; Events are left out."""
    deleted: Counter[str] = field(default_factory=Counter)


_LIFE: ContextVar[Life] = ContextVar("life")


class MortalClient(Client):
    """Counts its writes, and dies where its `Life` says."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._life = _LIFE.get()
        self._is_dead = False

    async def _send_once(self, method: str, path: str, *rest: Any) -> Any:
        if self._is_dead:
            # What the test's own clean-up of the dead operator still tries.
            raise errors.BusyError(f"{method} {path}: the dead send nothing")
        if method == "GET":
            return await super()._send_once(method, path, *rest)
        life, death = self._life, self._life.death
        life.writes += life.is_armed
        is_the_one = life.is_armed and not life.has_died and death is not None and life.writes == death.write
        if is_the_one and death is not None and death.moment == "before":
            await self._die()
        response = await super()._send_once(method, path, *rest)
        self._note(method, path, response.status)
        if is_the_one:
            await self._die()
        return response

    def _note(self, method: str, path: str, status: int) -> None:
        about = path.split("/namespaces/")[-1].partition("/")[2]
        if about.startswith("events"):
            return
        if status == 201:
            self._life.created[about] += 1
        if method == "DELETE":
            self._life.deleted[about] += 1

    async def _die(self) -> NoReturn:
        self._life.has_died = self._is_dead = True
        self._life.is_over.set()
        await asyncio.Event().wait()
        raise AssertionError("the dead do not go on")


@contextlib.contextmanager
def mortal_operators() -> Iterator[None]:
    """Give every operator that starts while the body runs a MortalClient."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "Client", MortalClient)
        yield


@contextlib.contextmanager
def living(death: Death | None) -> Iterator[Life]:
    """Let the operators that this task starts in the body share one life."""
    life = Life(death)
    token = _LIFE.set(life)
    try:
        yield life
    finally:
        _LIFE.reset(token)
