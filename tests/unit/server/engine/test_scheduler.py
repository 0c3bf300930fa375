"""What goes through the model in each step: decided here, without a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from inference_server.engine.interface import GenerationRequest, SamplingParams, Started
from inference_server.engine.pace import PREFILL_TOKENS, Pace
from inference_server.engine.scheduler import PageCopy, Plan, Scheduler, Sequence, Work, pieces
from inference_server.models.model import PAGE_TOKENS, Chunk


class FixedPace(Pace):
    """A budget that a test fixes; the real one is a test of its own."""

    def __init__(self, budget: int) -> None:
        super().__init__()
        self.budget = budget

    def prefill_tokens(self, decoding: int, prefilling: int) -> int:
        return self.budget


def sequence(
    request_id: str,
    prompt: list[int],
    *,
    max_tokens: int = 4,
    priority: int = 0,
    tenant: str = "",
    prompt_logprobs: int | None = None,
) -> Sequence:
    sampling = SamplingParams(max_tokens=max_tokens, prompt_logprobs=prompt_logprobs)
    return Sequence(
        GenerationRequest(
            request_id=request_id, prompt_token_ids=prompt, sampling=sampling, priority=priority, tenant=tenant
        ),
        seed=0,
    )


@dataclass
class Steps:
    """Drives a scheduler as the engine does, with a model that always says 7, and remembers what a slot holds."""

    scheduler: Scheduler
    slots: dict[int, list[int]] = field(default_factory=dict)
    pages: dict[int, list[int]] = field(default_factory=dict)

    def step(self) -> Plan:
        plan = self.scheduler.plan()
        for slot, start, page in plan.loads:
            self._write(slot, start, self.pages[page])
        for work in plan.work:
            owner, chunk = work
            self._write(chunk.slot, chunk.start, list(chunk.token_ids))
            assert self.slots[chunk.slot] == owner.token_ids[: chunk.start + len(chunk.token_ids)]
            self._store(self.scheduler.computed(work))
            if work.samples:
                owner.append(7)
                if owner.generated == owner.request.sampling.max_tokens:
                    self.leave(owner)
        return plan

    def leave(self, owner: Sequence) -> None:
        self._store(self.scheduler.leave(owner, keep=True))

    def run(self) -> list[Plan]:
        plans = []
        while self.scheduler.has_work():
            plans.append(self.step())
            assert plans[-1].work, "a step without work would go on for ever"
        return plans

    def _write(self, slot: int, start: int, token_ids: list[int]) -> None:
        held = self.slots.setdefault(slot, [])
        assert start <= len(held), "there would be a gap"
        self.slots[slot] = held[:start] + token_ids

    def _store(self, copies: list[PageCopy]) -> None:
        for slot, start, page in copies:
            self.pages[page] = self.slots[slot][start : start + PAGE_TOKENS]
            assert len(self.pages[page]) == PAGE_TOKENS


def scheduler(*, slots: int = 4, pages: int = 0, vocabulary_size: int = 512, budget: int = PREFILL_TOKENS) -> Scheduler:
    return Scheduler(slots, pages, vocabulary_size, FixedPace(budget))


def chunks(plan: Plan) -> list[tuple[str, int, int, int]]:
    """Return (request, start, tokens, logits) of each chunk."""
    return [
        (work.sequence.request.request_id, work.chunk.start, len(work.chunk.token_ids), work.chunk.logits)
        for work in plan.work
    ]


def test_prompts_are_packed_into_one_step_and_then_decoded() -> None:
    steps = Steps(scheduler())
    steps.scheduler.add(sequence("a", [1] * 5))
    steps.scheduler.add(sequence("b", [2] * 3))

    assert chunks(steps.step()) == [("a", 0, 5, 1), ("b", 0, 3, 1)]
    assert chunks(steps.step()) == [("a", 5, 1, 1), ("b", 3, 1, 1)]


def test_a_prompt_over_the_budget_goes_in_chunks_and_only_the_last_has_logits() -> None:
    steps = Steps(scheduler(budget=4))
    steps.scheduler.add(sequence("a", [1] * 10, max_tokens=1))
    steps.scheduler.add(sequence("b", [2] * 3, max_tokens=1))

    assert [chunks(plan) for plan in steps.run()] == [
        [("a", 0, 4, 0)],
        [("a", 4, 4, 0)],
        [("a", 8, 2, 1), ("b", 0, 2, 0)],
        [("b", 2, 1, 1)],
    ]


def test_decoding_comes_first_and_prompts_get_the_budget() -> None:
    steps = Steps(scheduler(budget=4))
    steps.scheduler.add(sequence("a", [1] * 4))
    steps.step()
    steps.scheduler.add(sequence("b", [2] * 6))

    assert chunks(steps.step()) == [("a", 4, 1, 1), ("b", 0, 4, 0)]


def test_the_line_is_ordered_by_priority_then_arrival_and_takes_the_lowest_free_slot() -> None:
    steps = Steps(scheduler(slots=2))
    for name, priority in (("late", 1), ("first", 0), ("second", 0), ("urgent", -1)):
        steps.scheduler.add(sequence(name, [1], max_tokens=1, priority=priority))

    plans = steps.run()

    assert [[started.request_id for started in plan.started] for plan in plans] == [
        ["urgent", "first"],
        ["second", "late"],
    ]
    assert [[work.chunk.slot for work in plan.work] for plan in plans] == [[0, 1], [0, 1]]


def test_a_prompt_of_higher_priority_is_prefilled_before_one_that_is_half_way() -> None:
    steps = Steps(scheduler(budget=4))
    steps.scheduler.add(sequence("a", [1] * 10))
    steps.step()
    steps.scheduler.add(sequence("urgent", [2] * 3, priority=-1))

    assert chunks(steps.step()) == [("urgent", 0, 3, 1), ("a", 4, 1, 0)]


def test_a_sequence_that_leaves_frees_its_slot_for_the_next_step() -> None:
    steps = Steps(scheduler(slots=1))
    running, waiting, gone = sequence("a", [1] * 3), sequence("b", [2] * 3), sequence("c", [3])
    for each in (running, waiting, gone):
        steps.scheduler.add(each)
    steps.step()
    steps.leave(running)
    steps.leave(gone)

    assert chunks(steps.step()) == [("b", 0, 3, 1)]
    assert steps.scheduler.find("a") is None


def test_log_probabilities_of_prompts_take_all_logits_in_bounded_chunks_and_no_prefix() -> None:
    steps = Steps(scheduler(pages=8, vocabulary_size=262_144))
    steps.scheduler.add(sequence("warm", [1] * 200, max_tokens=1))
    steps.step()
    steps.scheduler.add(sequence("a", [1] * 100, max_tokens=1, prompt_logprobs=0))
    steps.scheduler.add(sequence("b", [1] * 100, max_tokens=1, prompt_logprobs=0))
    steps.scheduler.add(sequence("plain", [1] * 100, max_tokens=1))

    assert chunks(steps.step()) == [("a", 0, 64, 64), ("plain", 96, 4, 1)]
    assert chunks(steps.step()) == [("a", 64, 36, 36), ("b", 0, 28, 28)]


def test_a_prefix_is_taken_from_the_cache_but_never_the_whole_prompt() -> None:
    steps = Steps(scheduler(pages=8))
    prompt = list(range(2 * PAGE_TOKENS))
    steps.scheduler.add(sequence("a", prompt, max_tokens=1))
    steps.run()
    steps.scheduler.add(sequence("same", prompt, max_tokens=1))
    steps.scheduler.add(sequence("longer", [*prompt, 5], max_tokens=1))
    steps.scheduler.add(sequence("stranger", prompt, max_tokens=1, tenant="other"))

    plan = steps.step()

    assert plan.started == [Started("same", PAGE_TOKENS), Started("longer", 2 * PAGE_TOKENS), Started("stranger", 0)]
    assert chunks(plan) == [("same", 32, 32, 1), ("longer", 64, 1, 1), ("stranger", 0, 64, 1)]


def test_the_next_turn_of_a_chat_finds_the_completion_too() -> None:
    steps = Steps(scheduler(pages=8))
    steps.scheduler.add(sequence("turn", [1] * PAGE_TOKENS, max_tokens=PAGE_TOKENS + 1))
    steps.run()
    steps.scheduler.add(sequence("next", [1] * PAGE_TOKENS + [7] * (PAGE_TOKENS + 1) + [9] * 5, max_tokens=1))

    assert steps.step().started == [Started("next", 2 * PAGE_TOKENS)]


def test_two_choices_of_one_prompt_compute_it_once() -> None:
    steps = Steps(scheduler(pages=8))
    prompt = list(range(70))
    for name in ("a", "b"):
        steps.scheduler.add(sequence(name, prompt, max_tokens=2))

    assert chunks(steps.step()) == [("a", 0, 70, 1)]
    second = steps.step()
    assert second.started == [Started("b", 64)]
    assert chunks(second) == [("a", 70, 1, 1), ("b", 64, 6, 1)]


def test_nobody_waits_for_a_prefix_that_spares_little() -> None:
    steps = Steps(scheduler(pages=16, budget=256))
    shared = list(range(PAGE_TOKENS))
    steps.scheduler.add(sequence("a", [*shared, *([1] * 100)]))
    steps.scheduler.add(sequence("b", [*shared, *([2] * 100)]))

    assert chunks(steps.step()) == [("a", 0, 132, 1), ("b", 0, 124, 0)]


def test_nobody_waits_for_a_prefix_of_a_sequence_that_comes_later() -> None:
    steps = Steps(scheduler(pages=16, budget=64))
    steps.scheduler.add(sequence("later", [1] * 100, priority=1))
    steps.step()
    steps.scheduler.add(sequence("urgent", [1] * 100))

    assert chunks(steps.step()) == [("urgent", 64, 36, 1), ("later", 64, 28, 0)]


def test_who_waits_for_a_prefix_goes_on_when_its_owner_is_gone() -> None:
    steps = Steps(scheduler(pages=8, budget=16))
    owner = sequence("a", [1] * 64)
    steps.scheduler.add(owner)
    steps.scheduler.add(sequence("b", [1] * 64))
    assert chunks(steps.step()) == [("a", 0, 16, 0)]

    steps.leave(owner)

    assert chunks(steps.step()) == [("b", 0, 16, 0)]


def test_penalties_count_the_completion_and_bias_stays() -> None:
    params = SamplingParams(max_tokens=9, presence_penalty=1.0, frequency_penalty=0.25, logit_bias={5: 2.0})
    owner = Sequence(GenerationRequest(request_id="a", prompt_token_ids=[5, 6], sampling=params), seed=0)
    for token in (5, 8, 8):
        owner.append(token)

    assert owner.shifts == {5: 0.75, 8: -1.5}


def test_work_that_does_not_fit_is_parted_down_to_the_one_that_cannot_run() -> None:
    first, second = sequence("a", [1] * 4), sequence("b", [2] * 128)
    decode = Work(first, Chunk(0, 4, [7], 1))
    short = Work(second, Chunk(1, 0, [2] * 64, 0))
    long = Work(second, Chunk(1, 0, [2] * 128, 1))

    assert pieces([decode, decode, short, long]) == [[decode, decode], [short, long]]
    assert pieces([decode, decode, decode]) == [[decode], [decode, decode]]
    assert pieces([long]) == [
        [Work(second, Chunk(1, 0, [2] * 64, 0))],
        [Work(second, Chunk(1, 64, [2] * 64, 1))],
    ]
    assert pieces([short]) == []
    assert pieces([decode]) == []


def test_parts_of_a_chunk_with_all_logits_have_all_logits() -> None:
    work = Work(sequence("a", [1] * 100), Chunk(0, 0, [1] * 100, 100))
    assert [part.chunk.logits for [part] in pieces([work])] == [50, 50]


requests = st.tuples(
    st.lists(st.integers(0, 1), min_size=1, max_size=5),  # pages of a prompt, so that many share a beginning
    st.integers(0, 40),  # tokens behind them
    st.integers(1, 40),
    st.integers(-1, 1),
    st.booleans(),
)
operations = st.one_of(requests, st.integers(0, 30), st.none())


@given(
    st.integers(1, 4),
    st.sampled_from([0, 1, 5, 64]),
    st.sampled_from([64, 100, 1024]),
    st.lists(operations, max_size=40),
)
def test_in_any_order_of_events_slots_budget_and_order_hold(
    slots: int, pages: int, budget: int, events: list[tuple[list[int], int, int, int, bool] | int | None]
) -> None:
    steps = Steps(scheduler(slots=slots, pages=pages, budget=budget, vocabulary_size=1 << 17))
    added: list[Sequence] = []
    for event in [*events, *([None] * 2000)]:
        if isinstance(event, tuple):
            prompt_pages, rest, max_tokens, priority, wants_logprobs = event
            prompt = [page for page in prompt_pages for _ in range(PAGE_TOKENS)] + [3] * rest
            logprobs = 0 if wants_logprobs else None
            added.append(
                sequence(str(len(added)), prompt, max_tokens=max_tokens, priority=priority, prompt_logprobs=logprobs)
            )
            steps.scheduler.add(added[-1])
        elif isinstance(event, int):
            if event < len(added) and steps.scheduler.find(str(event)):
                steps.leave(added[event])
        elif steps.scheduler.has_work():
            check(steps.step(), slots, budget)
    assert not steps.scheduler.has_work()
    assert not steps.scheduler._promised
    assert steps.scheduler.kv_tokens() == 0


def check(plan: Plan, slots: int, budget: int) -> None:
    """What every step must keep to."""
    used = [work.chunk.slot for work in plan.work]
    kinds = [work.is_prefill for work in plan.work]
    prefill = [work for work in plan.work if work.is_prefill]
    assert used, "a step without work would go on for ever"
    assert len(set(used)) == len(used)
    assert all(0 <= slot < slots for slot in used)
    assert kinds == sorted(kinds), "decoding comes first"
    assert sum(len(work.chunk.token_ids) for work in prefill) <= budget
    orders = [work.sequence.order for work in prefill]
    assert orders == sorted(orders)
    assert sum(work.chunk.logits for work in prefill if work.chunk.logits > 1) <= 128
