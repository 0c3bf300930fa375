"""The token clock of the fake engine, on a clock of the test's own."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from inference_server.engine.fake import FakeEngine
from inference_server.engine.interface import (
    EngineConfig,
    FakeConfig,
    GenerationRequest,
    LoadFailure,
    Progress,
    SamplingParams,
    SequenceOutput,
    Started,
)


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.now += seconds


def make_engine(clock: Clock, max_batch_size: int = 4, **fake: Any) -> FakeEngine:
    config = EngineConfig(engine="fake", max_batch_size=max_batch_size, fake=FakeConfig(**fake))
    return FakeEngine(config, clock=clock, sleep=clock.sleep)


def request(name: str, max_tokens: int = 3, **sampling: Any) -> GenerationRequest:
    params = SamplingParams(max_tokens=max_tokens, **{"temperature": 0.0, **sampling})
    return GenerationRequest(request_id=name, prompt_token_ids=[1, 2, 3], sampling=params)


def run(engine: FakeEngine, clock: Clock) -> list[tuple[float, SequenceOutput]]:
    outputs = []
    while engine.has_work():
        step = engine.step()
        outputs += [(round(clock.now, 6), output) for output in step.outputs]
    return outputs


def _names(started: list[Started]) -> list[str]:
    return [sequence.request_id for sequence in started]


def tokens(engine: FakeEngine, clock: Clock, generation: GenerationRequest) -> list[int]:
    engine.add(generation)
    return [token for _, output in run(engine, clock) for token in output.token_ids]


def test_the_first_token_comes_after_its_delay_and_the_others_at_the_rate() -> None:
    clock = Clock()
    engine = make_engine(clock, first_token_seconds=0.5, tokens_per_second=10.0)
    engine.add(request("a"))
    outputs = run(engine, clock)
    assert [time for time, _ in outputs] == pytest.approx([0.5, 0.6, 0.7], abs=1e-6)
    assert [output.finish_reason for _, output in outputs] == [None, None, "length"]


def test_a_step_naps_briefly_however_far_the_next_token_is() -> None:
    clock = Clock()
    engine = make_engine(clock, first_token_seconds=60.0)
    engine.add(request("a"))
    assert _names(engine.step().started) == ["a"]
    assert clock.now == pytest.approx(0.02)


def test_sequences_beyond_the_batch_wait_for_a_slot_in_order() -> None:
    clock = Clock()
    engine = make_engine(clock, max_batch_size=2, tokens_per_second=10.0)
    for name in ("a", "b", "c"):
        engine.add(request(name, max_tokens=2))
    started = []
    while engine.has_work():
        started.append(_names(engine.step().started))
    assert [names for names in started if names] == [["a", "b"], ["c"]]


def test_a_cancelled_sequence_gives_its_slot_to_the_next() -> None:
    clock = Clock()
    engine = make_engine(clock, max_batch_size=1, tokens_per_second=10.0)
    for name in ("a", "b", "c"):
        engine.add(request(name, max_tokens=1000))
    assert _names(engine.step().started) == ["a"]
    engine.cancel("b")
    engine.cancel("a")
    engine.cancel("nobody")
    assert _names(engine.step().started) == ["c"]


def test_prompt_and_seed_decide_the_text_and_greedy_ignores_the_seed() -> None:
    clock = Clock()
    engine = make_engine(clock)
    greedy = tokens(engine, clock, request("a", max_tokens=20))
    assert tokens(engine, clock, request("b", max_tokens=20, seed=9)) == greedy
    sampled = tokens(engine, clock, request("c", max_tokens=20, seed=9, temperature=1.0))
    assert tokens(engine, clock, request("d", max_tokens=20, seed=9, temperature=1.0)) == sampled
    assert sampled != greedy
    assert tokens(engine, clock, request("e", max_tokens=20, temperature=1.0)) != greedy


@pytest.mark.parametrize(
    ("fault", "code", "tokens_before"), [("oom", "out_of_memory", 0), ("nan", "non_finite_logits", 3)]
)
def test_a_fault_strikes_one_request_and_no_other(fault: str, code: str, tokens_before: int) -> None:
    clock = Clock()
    engine = make_engine(clock, fault=fault, fault_after=1, tokens_per_second=10.0)
    for name in ("a", "b", "c"):
        engine.add(request(name, max_tokens=5))
    last = {output.request_id: output for _, output in run(engine, clock) if output.finish_reason}
    assert (last["a"].finish_reason, last["c"].finish_reason) == ("length", "length")
    error = last["b"].error
    assert error is not None
    assert error.code == code
    engine.add(request("d"))
    assert all(output.error is None for _, output in run(engine, clock))


def test_loading_takes_its_time_and_reports_progress() -> None:
    clock = Clock()
    reports: list[Progress] = []
    model = make_engine(clock, load_seconds=10.0).load(reports.append)
    assert clock.now == pytest.approx(10.0)
    assert [report.done for report in reports] == list(range(100))
    assert (reports[50].eta_seconds, reports[50].total) == (5.0, 100)
    assert (model.max_model_len, model.slots) == (8192, 4)


def test_a_load_can_be_told_to_fail() -> None:
    with pytest.raises(LoadFailure, match="told to fail") as caught:
        make_engine(Clock(), fault="load-failure").load(lambda progress: None)
    assert (caught.value.reason, caught.value.exit_code) == ("EngineFailed", 70)


def test_memory_grows_with_the_tokens() -> None:
    clock = Clock()
    engine = make_engine(clock, bytes_per_token=1000, tokens_per_second=10.0)
    engine.add(request("a", max_tokens=100))
    for _ in range(12):
        engine.step()
    (sequence,) = engine._running.values()
    assert sum(map(len, sequence.memory)) == 1000 * (3 + sequence.emitted)


def test_of_waiting_sequences_the_one_of_lower_priority_starts_first() -> None:
    clock = Clock()
    engine = make_engine(clock, max_batch_size=1, tokens_per_second=10.0)
    for name, priority in (("a", 5), ("b", 5), ("c", 1)):
        engine.add(msgspec.structs.replace(request(name), priority=priority))
    started = []
    while engine.has_work():
        started += _names(engine.step().started)
    assert started == ["c", "a", "b"]


def test_log_probabilities_come_for_what_was_asked_those_of_the_prompt_first() -> None:
    clock = Clock()
    engine = make_engine(clock)
    engine.add(request("a", max_tokens=2, logprobs=2, prompt_logprobs=0))
    outputs = [output for _, output in run(engine, clock)]
    assert [logprobs.token_id for output in outputs for logprobs in output.prompt_logprobs] == [2, 3]
    found = [logprobs for output in outputs for logprobs in output.logprobs]
    assert [logprobs.token_id for logprobs in found] == [token for output in outputs for token in output.token_ids]
    assert [logprobs.logprob for logprobs in found] == [-0.5, -0.5]
    assert [[logprob for _, logprob in logprobs.top] for logprobs in found] == [[-0.5, -1.5]] * 2


def test_a_bias_bans_or_forces_and_anything_less_gives_another_text() -> None:
    clock = Clock()
    engine = make_engine(clock)
    plain = tokens(engine, clock, request("a", max_tokens=30))
    banned = dict.fromkeys(plain, -100.0)
    assert not set(plain) & set(tokens(engine, clock, request("b", max_tokens=30, logit_bias=banned)))
    assert tokens(engine, clock, request("c", max_tokens=2, logit_bias={70: 100.0})) == [70, 70]
    for leaning in ({"logit_bias": {70: 1.0}}, {"presence_penalty": 0.1}, {"frequency_penalty": -0.1}):
        assert tokens(engine, clock, request("d", max_tokens=30, **leaning)) != plain


def test_what_a_prompt_shares_with_the_tenants_last_one_is_cached_in_pages() -> None:
    clock = Clock()
    engine = make_engine(clock, tokens_per_second=10.0)

    def cached(prompt: list[int], tenant: str = "") -> tuple[int, int]:
        engine.add(msgspec.structs.replace(request("a"), prompt_token_ids=prompt, tenant=tenant))
        step = engine.step()
        run(engine, clock)
        return step.started[0].cached_tokens, step.prefill_tokens

    assert cached([1] * 40) == (0, 40)
    assert cached([1] * 35 + [2] * 5) == (32, 8)
    assert cached([1] * 35 + [2] * 5, tenant="other") == (0, 40)
    assert cached([1] * 35 + [2] * 5, tenant="other") == (32, 8)
    assert cached([1] * 16) == (0, 16)


def test_a_step_counts_what_it_did() -> None:
    clock = Clock()
    engine = make_engine(clock, tokens_per_second=10.0)
    engine.add(request("a", max_tokens=3))
    engine.add(request("b", max_tokens=1))
    step = engine.step()
    assert (step.prefill_tokens, step.decode_tokens, step.kv_tokens) == (6, 2, 4)


def test_what_comes_before_a_fault_goes_out_even_when_a_step_is_late() -> None:
    clock = Clock()
    engine = make_engine(clock, fault="nan", tokens_per_second=10.0)
    engine.add(request("a", max_tokens=50))
    engine.step()
    clock.sleep(3.0)
    late, struck = engine.step().outputs[0], engine.step().outputs[0]
    assert len(late.token_ids) == 2
    assert struck.error is not None
