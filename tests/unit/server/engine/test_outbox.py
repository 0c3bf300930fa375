"""What leaves the engine process at once, what waits, and that nothing is lost or changes its order on the way."""

from __future__ import annotations

import random

import pytest

from inference_server.engine.interface import (
    Delivery,
    GenerationRequest,
    SamplingParams,
    SequenceOutput,
    Started,
    StepOutput,
    TokenLogprobs,
)
from inference_server.engine.outbox import LONGEST_HOLD_SECONDS, STREAM_SECONDS, Outbox
from inference_server.engine.protocol import Stepped


class Engine:
    """Steps that take `step_seconds` each on a clock of its own, and what the outbox makes of them."""

    def __init__(self, step_seconds: float) -> None:
        self.now, self.step_seconds = 100.0, step_seconds
        self.sent: list[Stepped] = []
        self.outbox = Outbox(self.sent.append, lambda: self.now)

    def expect(self, *names: str, delivery: Delivery = "stream") -> None:
        for name in names:
            sampling = SamplingParams(max_tokens=1000)
            request = GenerationRequest(request_id=name, prompt_token_ids=[1], sampling=sampling, delivery=delivery)
            self.outbox.expect(request)

    def step(self, *outputs: SequenceOutput, started: tuple[str, ...] = (), prefill_tokens: int = 0) -> list[Stepped]:
        began = self.now
        self.now += self.step_seconds
        before = len(self.sent)
        names = [Started(name) for name in started]
        output = StepOutput(outputs=list(outputs), started=names, prefill_tokens=prefill_tokens, kv_tokens=9)
        self.outbox.stepped(output, began)
        return self.sent[before:]

    def streaming(self, *names: str, delivery: Delivery = "stream") -> None:
        """Have sequences whose first token is out, and everything that came by then."""
        self.expect(*names, delivery=delivery)
        self.step(*(token(name, 0) for name in names))
        self.outbox.flush()
        self.sent.clear()


def token(name: str, *ids: int) -> SequenceOutput:
    return SequenceOutput(request_id=name, token_ids=list(ids))


def outputs(sent: list[Stepped]) -> list[SequenceOutput]:
    return [output for message in sent for output in message.outputs]


def test_a_first_token_leaves_at_once() -> None:
    engine = Engine(0.001)
    engine.streaming("old")
    engine.expect("new")
    assert outputs(engine.step(token("old", 1), token("new", 7))) == [token("new", 7)]


def test_the_tokens_of_a_stream_leave_together_within_the_hold() -> None:
    engine = Engine(STREAM_SECONDS / 4)
    engine.streaming("a")
    sent = [outputs(engine.step(token("a", number))) for number in range(1, 5)]
    assert sent == [[], [], [], [token("a", 1, 2, 3, 4)]]


def test_steps_that_take_as_long_as_the_hold_are_not_held() -> None:
    engine = Engine(STREAM_SECONDS)
    engine.streaming("a")
    assert outputs(engine.step(token("a", 1))) == [token("a", 1)]


def test_an_end_leaves_at_once_with_what_was_held_of_its_sequence_alone() -> None:
    engine = Engine(0.001)
    engine.streaming("a", "b")
    assert engine.step(token("a", 1), token("b", 2)) == []
    end = SequenceOutput(request_id="a", token_ids=[3], finish_reason="length")
    ended = SequenceOutput(request_id="a", token_ids=[1, 3], finish_reason="length")
    assert outputs(engine.step(end, token("b", 4))) == [ended]
    engine.outbox.flush()
    assert outputs(engine.sent[1:]) == [token("b", 2, 4)]


def test_a_sequence_that_may_have_to_be_stopped_is_never_held() -> None:
    engine = Engine(0.001)
    engine.streaming("a", delivery="step")
    assert [outputs(engine.step(token("a", number))) for number in (1, 2)] == [[token("a", 1)], [token("a", 2)]]


def test_the_start_of_a_sequence_is_told_at_once_with_the_start_of_its_step() -> None:
    engine = Engine(0.001)
    engine.streaming("a")
    engine.expect("b")
    (message,) = engine.step(token("a", 1), started=("b",), prefill_tokens=64)
    assert (message.started, message.outputs) == ([Started("b")], [])
    assert message.began == pytest.approx(engine.now - 0.001)


def test_what_is_held_leaves_before_a_prompt_is_taken_in() -> None:
    engine = Engine(0.001)
    engine.streaming("a")
    engine.step(token("a", 1))
    engine.expect("b")
    assert outputs(engine.sent) == [token("a", 1)]


def test_a_cancelled_sequence_is_not_heard_of_again() -> None:
    engine = Engine(0.001)
    engine.streaming("a", "b")
    engine.step(token("a", 1), token("b", 2))
    engine.outbox.forget("a")
    engine.outbox.flush()
    assert outputs(engine.sent) == [token("b", 2)]


def test_log_probabilities_stay_beside_their_tokens() -> None:
    engine = Engine(0.001)
    engine.streaming("a")
    entries = [TokenLogprobs(number, -1.0 * number) for number in (1, 2)]
    for entry in entries:
        engine.step(SequenceOutput(request_id="a", token_ids=[entry.token_id], logprobs=[entry]))
    engine.outbox.flush()
    assert outputs(engine.sent) == [SequenceOutput(request_id="a", token_ids=[1, 2], logprobs=entries)]


def test_every_step_is_told_once_whether_held_or_not() -> None:
    engine = Engine(0.004)
    engine.streaming("a")
    for number in range(1, 8):
        engine.step(token("a", number))
    engine.step(prefill_tokens=5)
    engine.outbox.flush()
    told = [step for message in engine.sent for step in message.steps]
    assert [(step.tokens, step.prefill_tokens, step.kv_tokens) for step in told] == [(1, 0, 9)] * 7 + [(0, 5, 9)]
    assert [step.seconds for step in told] == pytest.approx([0.004] * 8)
    engine.outbox.flush()
    assert [step for message in engine.sent for step in message.steps] == told


def test_nothing_to_say_is_not_said() -> None:
    engine = Engine(0.001)
    engine.outbox.flush()
    assert engine.sent == []


@pytest.mark.parametrize("seed", range(20))
def test_streams_are_whole_in_order_and_never_later_than_the_longest_hold_and_a_step(seed: int) -> None:
    generator = random.Random(seed)
    engine = Engine(0.0)
    names = [f"s{number}" for number in range(generator.randint(1, 40))]
    engine.streaming(*names)
    made: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
    got: dict[str, list[int]] = {name: [] for name in names}
    lateness = []
    for _ in range(200):
        engine.step_seconds = generator.uniform(0.0005, 0.03)
        advanced = [name for name in names if generator.random() < 0.8]
        for name in advanced:
            made[name].append((len(made[name]), engine.now + engine.step_seconds))
        for output in outputs(engine.step(*(token(name, made[name][-1][0]) for name in advanced))):
            lateness += [engine.now - made[output.request_id][each][1] for each in output.token_ids]
            got[output.request_id] += output.token_ids
    assert max(lateness) <= LONGEST_HOLD_SECONDS + 0.03
    engine.sent.clear()
    engine.outbox.flush()
    for output in outputs(engine.sent):
        got[output.request_id] += output.token_ids
    assert got == {name: [number for number, _ in tokens] for name, tokens in made.items()}
