"""Many sequences at once say what each says alone, whatever happens beside them."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
from torch import Tensor

from inference_server.engine.batching_engine import BatchingEngine
from inference_server.engine.interface import GenerationRequest, SamplingParams, SequenceOutput, StepOutput
from inference_server.models.model import PAGE_TOKENS, Chunk
from tests.support.prefix_model import EOS, OFFENDER, POISON, PrefixModel

MakeModel = Callable[..., PrefixModel]


@pytest.fixture
def make_model() -> MakeModel:
    """The model under the engine; every test here holds for any."""
    return PrefixModel


def request(request_id: str, prompt: Sequence[int], max_tokens: int = 12, **sampling: Any) -> GenerationRequest:
    params = SamplingParams(max_tokens=max_tokens, **{"temperature": 0.0, **sampling})
    return GenerationRequest(request_id=request_id, prompt_token_ids=list(prompt), sampling=params)


def finish(engine: BatchingEngine) -> tuple[dict[str, SequenceOutput], list[StepOutput]]:
    """Step until there is no work; returns every sequence's outputs as one, and the steps."""
    steps = []
    while engine.has_work():
        steps.append(engine.step())
    return joined(steps), steps


def joined(steps: Sequence[StepOutput]) -> dict[str, SequenceOutput]:
    """Return what each sequence got, all its outputs in one."""
    whole: dict[str, SequenceOutput] = {}
    for output in (output for step in steps for output in step.outputs):
        before = whole.get(output.request_id, SequenceOutput(request_id=output.request_id))
        assert before.finish_reason is None, "a finished sequence is forgotten"
        assert not (before.token_ids and output.prompt_logprobs), "the prompt's come first"
        whole[output.request_id] = SequenceOutput(
            request_id=output.request_id,
            token_ids=before.token_ids + output.token_ids,
            logprobs=before.logprobs + output.logprobs,
            prompt_logprobs=before.prompt_logprobs + output.prompt_logprobs,
            finish_reason=output.finish_reason,
            error=output.error,
        )
    return whole


def alone(make_model: MakeModel, wanted: GenerationRequest) -> SequenceOutput:
    engine = BatchingEngine(make_model(slots=1))
    engine.add(wanted)
    return finish(engine)[0][wanted.request_id]


def prompt(length: int, seed: int = 1) -> list[int]:
    return random.Random(seed).choices(range(1, OFFENDER), k=length)


def mixed_batch() -> list[GenerationRequest]:
    """Return every kind of request, some of them with a common beginning."""
    shared = prompt(70)
    return [
        request("greedy", prompt(9, 2)),
        request("sampled", shared, temperature=1.0, seed=7),
        request("other seed", shared, temperature=1.0, seed=8),
        request("nucleus", [*shared, 5], temperature=0.8, top_p=0.9, seed=7),
        request("logprobs", shared, logprobs=5),
        request("sampled logprobs", prompt(3), temperature=2.0, seed=1, logprobs=0),
        request("prompt logprobs", [*shared, 9, 9], prompt_logprobs=2, logprobs=1),
        request("penalties", prompt(40, 3), presence_penalty=1.5, frequency_penalty=0.5, temperature=0.7, seed=3),
        request("bias", prompt(40, 3), logit_bias={11: 100.0, 12: 99.0}, presence_penalty=2.0),
        request("long", prompt(300, 4), max_tokens=30, temperature=1.0, seed=2),
        request("ignores its end", prompt(9, 2), max_tokens=60, ignore_eos=True, logit_bias={EOS: 3.0}),
    ]


def test_every_kind_of_request_in_one_batch_gets_what_it_gets_alone(make_model: MakeModel) -> None:
    engine = BatchingEngine(make_model(pages=64))
    for each in mixed_batch():
        engine.add(each)

    together, _ = finish(engine)

    assert together == {each.request_id: alone(make_model, each) for each in mixed_batch()}


def test_a_second_round_from_the_prefix_cache_says_the_same(make_model: MakeModel) -> None:
    engine = BatchingEngine(make_model(pages=64))
    rounds = []
    for _ in range(2):
        for each in mixed_batch():
            engine.add(each)
        rounds.append(finish(engine))

    assert rounds[0][0] == rounds[1][0]
    cached = {started.request_id: started.cached_tokens for step in rounds[1][1] for started in step.started}
    assert cached["long"] == 288
    assert cached["prompt logprobs"] == 0
    assert sum(step.prefill_tokens for step in rounds[1][1]) < sum(step.prefill_tokens for step in rounds[0][1]) / 2


@pytest.mark.parametrize("seed", range(12))
def test_random_arrivals_and_cancellations_change_nothing_for_the_others(make_model: MakeModel, seed: int) -> None:
    source = random.Random(seed)
    engine = BatchingEngine(make_model(slots=source.choice([1, 3, 8]), pages=source.choice([0, 3, 40])))
    kinds = {each.request_id: each for each in mixed_batch()}
    expected = {shape: alone(make_model, each) for shape, each in kinds.items()}
    shapes = {str(number): source.choice(list(kinds)) for number in range(60)}
    arrivals = [
        msgspec.structs.replace(
            kinds[shape], request_id=name, priority=source.choice([0, 0, 1]), tenant=source.choice(["", "b"])
        )
        for name, shape in shapes.items()
    ]
    steps, cancelled = [], set()
    while arrivals or engine.has_work():
        for _ in range(min(source.randrange(4), len(arrivals))):
            engine.add(arrivals.pop())
        if source.random() < 0.3:
            cancelled.add(gone := str(source.randrange(60)))
            engine.cancel(gone)
            arrivals = [each for each in arrivals if each.request_id != gone]
        if engine.has_work():
            steps.append(engine.step())

    outputs = joined(steps)
    for request_id, shape in shapes.items():
        got = outputs.get(request_id, SequenceOutput(request_id=request_id))
        if request_id in cancelled and got.finish_reason is None:
            assert got.token_ids == expected[shape].token_ids[: len(got.token_ids)]
        else:
            assert got == msgspec.structs.replace(expected[shape], request_id=request_id)


def test_chunks_say_what_a_whole_prompt_says(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = request("a", prompt(300), prompt_logprobs=1, logprobs=2)
    whole = alone(make_model, wanted)

    monkeypatch.setattr("inference_server.engine.pace.PREFILL_AT_LEAST_TOKENS", 7)
    monkeypatch.setattr("inference_server.engine.pace.PREFILL_TOKENS", 7)

    assert alone(make_model, wanted) == whole
    assert len(whole.prompt_logprobs) == 299


def test_every_step_streams_one_token_and_the_last_says_why_it_ended(make_model: MakeModel) -> None:
    engine = BatchingEngine(make_model())
    engine.add(request("a", prompt(5), max_tokens=3, ignore_eos=True))

    _, steps = finish(engine)

    outputs = [output for step in steps for output in step.outputs]
    assert [(len(output.token_ids), output.finish_reason) for output in outputs] == [
        (1, None),
        (1, None),
        (1, "length"),
    ]
    assert [(step.prefill_tokens, step.decode_tokens, step.kv_tokens) for step in steps] == [
        (5, 0, 5),
        (0, 1, 6),
        (0, 1, 0),
    ]


def test_an_end_of_sequence_token_ends_with_stop_and_is_not_sent(make_model: MakeModel) -> None:
    wanted = request("a", prompt(5), logit_bias={EOS: 100.0}, logprobs=0)

    assert alone(make_model, wanted) == SequenceOutput(request_id="a", finish_reason="stop")
    ignored = alone(make_model, request("a", prompt(5), logit_bias={EOS: 100.0}, ignore_eos=True))
    assert (ignored.token_ids, ignored.finish_reason) == ([EOS] * 12, "length")


def test_thirty_two_sequences_run_at_once_and_no_more(make_model: MakeModel) -> None:
    model = make_model()
    engine = BatchingEngine(model)
    for number in range(40):
        engine.add(request(str(number), prompt(4, number), max_tokens=5, ignore_eos=True))

    outputs, steps = finish(engine)

    assert len(outputs) == 40
    assert max(step.decode_tokens for step in steps) == 32
    assert {slot for slots in model.forwards for slot in slots} == set(range(32))


def test_a_cancelled_sequence_is_gone_at_the_next_step(make_model: MakeModel) -> None:
    model = make_model(slots=1)
    engine = BatchingEngine(model)
    engine.add(request("gone", prompt(5), max_tokens=100))
    engine.add(request("next", prompt(6), max_tokens=2))
    engine.step()
    engine.cancel("gone")
    engine.cancel("unknown")

    assert [started.request_id for started in engine.step().started] == ["next"]


def test_two_choices_of_one_prompt_share_its_prefill(make_model: MakeModel) -> None:
    engine = BatchingEngine(make_model(pages=8))
    for seed in (1, 2):
        engine.add(request(str(seed), prompt(100), temperature=1.0, seed=seed))

    outputs, steps = finish(engine)

    assert sum(step.prefill_tokens for step in steps) == 100 + 100 - 3 * PAGE_TOKENS
    assert outputs["1"].token_ids != outputs["2"].token_ids


def test_without_a_seed_two_sequences_differ(make_model: MakeModel) -> None:
    engine = BatchingEngine(make_model())
    for name in ("a", "b"):
        engine.add(request(name, prompt(5), temperature=1.0, max_tokens=20, ignore_eos=True))

    outputs, _ = finish(engine)

    assert outputs["a"].token_ids != outputs["b"].token_ids


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "top_p": 0.9}, {"logprobs": 3}, {"prompt_logprobs": 0}])
def test_logits_that_are_no_numbers_fail_the_request_and_nothing_else(
    make_model: MakeModel, sampling: dict[str, Any]
) -> None:
    engine = BatchingEngine(make_model(pages=8))
    healthy = request("healthy", prompt(40), temperature=1.0, top_p=0.9, seed=5)
    engine.add(healthy)
    engine.step()
    engine.add(request("broken", [5, POISON, 6], **sampling))

    outputs, _ = finish(engine)

    assert outputs["broken"].error is not None
    assert (outputs["broken"].finish_reason, outputs["broken"].error.code) == ("error", "non_finite_logits")
    assert outputs["broken"].token_ids == []


@pytest.fixture
def collected() -> Iterator[None]:
    """Spare the collector the tests' own objects, as the process does with what it has loaded."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("collected")
def test_a_thousand_times_out_of_memory_fails_only_who_caused_it(make_model: MakeModel) -> None:
    """An offender cannot hold more tokens than its second one says: at its start, in its prompt or while it decodes."""
    source = random.Random(4)
    model = make_model(slots=8, pages=16)
    engine = BatchingEngine(model)

    def fault(sequences: list[list[int]]) -> None:
        if any(tokens[0] == OFFENDER and len(tokens) > max(tokens[1:2], default=1) for tokens in sequences):
            raise MemoryError if source.random() < 0.5 else RuntimeError("can't allocate memory: 1 byte")

    model.fault = fault
    healthy = {f"healthy {n}": request(f"healthy {n}", prompt(20 + n % 90, n), max_tokens=8) for n in range(300)}
    arrivals = list(healthy.values())
    for number in range(1000):
        rest = source.randrange(160)
        limit = source.randrange(1, rest + 9)
        arrivals.append(request(f"{number}", [OFFENDER, limit, *prompt(rest, number)], max_tokens=9, ignore_eos=True))
    source.shuffle(arrivals)
    steps, in_flight = [], 0
    while arrivals or engine.has_work():
        for _ in range(min(12 - in_flight, len(arrivals))):
            engine.add(arrivals.pop())
            in_flight += 1
        steps.append(engine.step())
        in_flight -= sum(output.finish_reason is not None for output in steps[-1].outputs)

    outputs = joined(steps)
    failed = {name for name, output in outputs.items() if output.error and output.error.code == "out_of_memory"}
    assert failed == {str(number) for number in range(1000)}
    assert {name: outputs[name] for name in healthy} == {n: alone(make_model, each) for n, each in healthy.items()}


def test_a_long_chunk_that_does_not_fit_is_computed_in_parts(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    engine = BatchingEngine(model)
    wanted = request("long", prompt(400))

    forward = model.forward

    def short_of_memory(chunks: Sequence[Chunk]) -> Tensor:
        if sum(len(chunk.token_ids) for chunk in chunks) > 120:
            raise MemoryError
        return forward(chunks)

    monkeypatch.setattr(model, "forward", short_of_memory)
    engine.add(wanted)

    outputs, steps = finish(engine)

    assert outputs["long"] == alone(make_model, wanted)
    assert steps[0].prefill_tokens == 400


def test_any_other_failure_of_a_pass_is_the_engines_death(make_model: MakeModel) -> None:
    model = make_model()
    engine = BatchingEngine(model)

    def fault(sequences: list[list[int]]) -> None:
        raise RuntimeError("illegal memory access")

    model.fault = fault
    engine.add(request("a", [1]))

    with pytest.raises(RuntimeError, match="illegal memory access"):
        engine.step()


def test_the_rehearsal_leaves_nothing_behind(make_model: MakeModel) -> None:
    engine = BatchingEngine(make_model(slots=1))
    assert engine.rehearse() > 0
    wanted = request("a", prompt(5))
    engine.add(wanted)

    assert finish(engine)[0]["a"] == alone(make_model, wanted)
