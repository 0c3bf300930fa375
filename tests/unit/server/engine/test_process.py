"""How the engine process shares its one thread between commands and steps."""

from __future__ import annotations

import queue
import socket

from inference_server.engine import process, protocol
from inference_server.engine.interface import GenerationRequest, SamplingParams, StepOutput


class FloodedEngine:
    """Always has work; each command it obeys brings the next one. After `steps` steps the web process is gone."""

    def __init__(self, inbox: process.Inbox, steps: int) -> None:
        self.inbox, self.steps = inbox, steps
        self.happened: list[str] = []

    def load(self, report: object) -> None: ...

    def add(self, request: GenerationRequest) -> None:
        self.happened.append(f"add {request.request_id}")

    def cancel(self, request_id: str) -> None:
        assert len(self.happened) < 100, "commands have held up the step"
        self.happened.append(f"cancel {request_id}")
        self.inbox.put(protocol.Cancel(request_id))

    def has_work(self) -> bool:
        return bool(self.happened)

    def step(self) -> StepOutput:
        self.happened.append("step")
        self.steps -= 1
        if not self.steps:
            self.inbox.put(None)
        return StepOutput()


def test_all_that_has_arrived_is_obeyed_before_a_step_and_a_flood_does_not_hold_it_up() -> None:
    inbox: process.Inbox = queue.SimpleQueue()
    request = GenerationRequest(request_id="a", prompt_token_ids=[1], sampling=SamplingParams(max_tokens=1))
    for command in (request, protocol.Cancel("b"), protocol.Cancel("c")):
        inbox.put(command)
    engine = FloodedEngine(inbox, steps=2)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process._drive(engine, ours, inbox)  # type: ignore[arg-type]

    assert engine.happened == [
        "add a",
        "cancel b",
        "cancel c",
        "step",
        "cancel b",
        "cancel c",
        "step",
        "cancel b",
        "cancel c",
    ]
