"""Decides which tokens go through the model in a step: waiting line, slots, prefix cache and token budget.

Decisions on values, without torch, a clock or chance: `batching_engine` carries them out. A sequence waits for a slot,
has its prompt prefilled in chunks, then decodes a token in each step. A step first takes every decoding sequence, then
packs prompts, in the order of the waiting line, until the budget of `pace` is used up.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import NamedTuple

from inference_server.engine.interface import GenerationRequest, Started
from inference_server.engine.pace import PREFILL_AT_LEAST_TOKENS, Pace
from inference_server.engine.prefix_cache import PrefixCache, extend_keys
from inference_server.models.model import PAGE_TOKENS, Chunk

PROMPT_LOGITS = 1 << 24
"""Most logits a step computes for log-probabilities of prompts: 64 MiB, 64 positions of a vocabulary of 262,144."""
WORTH_WAITING_FOR = 0.25
"""A prompt waits for another one's prefill if that spares it this share of its own."""


@dataclass(slots=True, eq=False)
class Sequence:
    """A request from the waiting line to its end.

    `token_ids` are prompt and completion; the KV memory of `slot` (-1 while waiting) holds the first `computed` of
    them. `shifts` are what bias and penalties add to the logits of single tokens. `keys` are those of full pages.
    """

    request: GenerationRequest
    seed: int
    arrival: int = 0
    slot: int = -1
    computed: int = 0
    has_started: bool = False
    token_ids: list[int] = field(init=False)
    shifts: dict[int, float] = field(init=False)
    keys: list[bytes] = field(default_factory=list)
    _penalized: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.token_ids = list(self.request.prompt_token_ids)
        self.shifts = dict(self.request.sampling.logit_bias)

    @property
    def prompt_tokens(self) -> int:
        return len(self.request.prompt_token_ids)

    @property
    def generated(self) -> int:
        return len(self.token_ids) - len(self.request.prompt_token_ids)

    @property
    def order(self) -> tuple[int, int]:
        """The place in the waiting line: smaller comes first."""
        return self.request.priority, self.arrival

    def append(self, token_id: int) -> None:
        """Take a new token into the completion, and its penalties into `shifts`."""
        self.token_ids.append(token_id)
        params = self.request.sampling
        if params.presence_penalty or params.frequency_penalty:
            once = 0.0 if token_id in self._penalized else params.presence_penalty
            self._penalized.add(token_id)
            self.shifts[token_id] = self.shifts.get(token_id, 0.0) - params.frequency_penalty - once


class Work(NamedTuple):
    """A chunk of a sequence. If `samples`, its last position chooses the sequence's next token."""

    sequence: Sequence
    chunk: Chunk

    @property
    def samples(self) -> bool:
        return self.chunk.start + len(self.chunk.token_ids) == len(self.sequence.token_ids)

    @property
    def is_prefill(self) -> bool:
        return self.chunk.start < self.sequence.prompt_tokens


class PageCopy(NamedTuple):
    """The tokens from `start` of `slot`, to be copied to or from `page`."""

    slot: int
    start: int
    page: int


@dataclass(slots=True)
class Plan:
    """What a step does: first copy `loads` from pages to slots, then compute `work`."""

    started: list[Started] = field(default_factory=list)
    loads: list[PageCopy] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)


class Scheduler:
    """Owns the waiting line, `slots` slots and the page numbers of the prefix cache (`pages` 0 is none)."""

    def __init__(self, slots: int, pages: int, vocabulary_size: int, pace: Pace) -> None:
        self._pace = pace
        self._cache = PrefixCache(pages) if pages else None
        self._prompt_logits_rows = max(1, PROMPT_LOGITS // vocabulary_size)
        self._sequences: dict[str, Sequence] = {}
        self._waiting: list[Sequence] = []
        self._slots: list[Sequence | None] = [None] * slots
        self._promised: dict[bytes, Sequence] = {}
        self._arrivals = 0

    def add(self, sequence: Sequence) -> None:
        """Put a sequence into the waiting line: by priority, then by arrival."""
        assert sequence.request.request_id not in self._sequences, "request ids are unique among those in flight"
        self._arrivals += 1
        sequence.arrival = self._arrivals
        self._sequences[sequence.request.request_id] = sequence
        insort(self._waiting, sequence, key=lambda waiting: waiting.order)

    def find(self, request_id: str) -> Sequence | None:
        """Return the sequence of that id, waiting or running."""
        return self._sequences.get(request_id)

    def has_work(self) -> bool:
        """Whether any sequence is waiting or running."""
        return bool(self._sequences)

    def kv_tokens(self) -> int:
        """Return how many tokens of running sequences the KV memory holds."""
        return sum(sequence.computed for sequence in self._slots if sequence)

    def plan(self) -> Plan:
        """Give free slots to waiting sequences, lowest slot first, and return the next step."""
        while self._waiting and None in self._slots:
            sequence = self._waiting.pop(0)
            sequence.slot = self._slots.index(None)
            self._slots[sequence.slot] = sequence
        plan, prefilling = Plan(), []
        for sequence in filter(None, self._slots):
            # A prompt's last position is computed together with its first token, so there is always one to decode.
            if sequence.computed >= sequence.prompt_tokens:
                chunk = Chunk(sequence.slot, sequence.computed, sequence.token_ids[sequence.computed :], 1)
                plan.work.append(Work(sequence, chunk))
            else:
                prefilling.append(sequence)
        if prefilling:
            budget = self._pace.prefill_tokens(len(plan.work), len(prefilling))
            self._plan_prefill(plan, sorted(prefilling, key=lambda sequence: sequence.order), budget)
        return plan

    def computed(self, work: Work) -> list[PageCopy]:
        """Note that `work` went through the model; returns the pages of its prompt that are to be stored."""
        sequence, chunk = work
        sequence.computed = chunk.start + len(chunk.token_ids)
        return self._keep(sequence) if work.is_prefill else []

    def leave(self, sequence: Sequence, *, keep: bool) -> list[PageCopy]:
        """Forget a sequence and free its slot; with `keep`, returns the pages of its completion to be stored.

        The next turn of a chat begins with them. They must be stored before the next step.
        """
        del self._sequences[sequence.request.request_id]
        if sequence.slot < 0:
            self._waiting.remove(sequence)
            return []
        self._slots[sequence.slot] = None
        for key in sequence.keys:
            self._fulfil(key, sequence)
        copies = self._keep(sequence) if keep else []
        sequence.slot = -1
        return copies

    def _plan_prefill(self, plan: Plan, prefilling: list[Sequence], budget: int) -> None:
        rows = self._prompt_logits_rows
        for sequence in prefilling:
            wants_rows = sequence.request.sampling.prompt_logprobs is not None
            room = min(budget, rows) if wants_rows else budget
            if room and (sequence.has_started or self._start(plan, sequence)):
                end = min(sequence.computed + room, sequence.prompt_tokens)
                token_ids = sequence.token_ids[sequence.computed : end]
                logits = len(token_ids) if wants_rows else int(end == sequence.prompt_tokens)
                plan.work.append(Work(sequence, Chunk(sequence.slot, sequence.computed, token_ids, logits)))
                budget -= len(token_ids)
                rows -= len(token_ids) if wants_rows else 0

    def _start(self, plan: Plan, sequence: Sequence) -> bool:
        """Take what the cache has of the prompt; False if the sequence waits for what another one is computing."""
        hits = 0
        if self._cache is not None:
            request, length = sequence.request, sequence.prompt_tokens
            extend_keys(sequence.keys, request.tenant, sequence.token_ids, length // PAGE_TOKENS)
            # The last position must be computed for its logits, those of all if the prompt's are wanted.
            usable = (
                [] if request.sampling.prompt_logprobs is not None else sequence.keys[: (length - 1) // PAGE_TOKENS]
            )
            hits = self._cache.count(usable)
            coming = self._promises(usable[hits:], request.priority)
            if coming and coming * PAGE_TOKENS >= WORTH_WAITING_FOR * (length - hits * PAGE_TOKENS):
                return False
            for index, page in enumerate(self._cache.use(usable[:hits])):
                plan.loads.append(PageCopy(sequence.slot, index * PAGE_TOKENS, page))
            for key in sequence.keys[hits:]:
                self._promised.setdefault(key, sequence)
        sequence.has_started = True
        sequence.computed = hits * PAGE_TOKENS
        plan.started.append(Started(sequence.request.request_id, sequence.computed))
        return True

    def _promises(self, keys: list[bytes], priority: int) -> int:
        """Return how many of `keys`, from the first on, are being computed by sequences that do not come later."""
        for index, key in enumerate(keys):
            owner = self._promised.get(key)
            if owner is None or owner.request.priority > priority:
                return index
        return len(keys)

    def _keep(self, sequence: Sequence) -> list[PageCopy]:
        """Cache the full pages that the sequence's slot holds; returns those to be stored."""
        if self._cache is None:
            return []
        pages = sequence.computed // PAGE_TOKENS
        extend_keys(sequence.keys, sequence.request.tenant, sequence.token_ids, pages)
        for key in sequence.keys[:pages]:
            self._fulfil(key, sequence)
        added = self._cache.keep(sequence.keys[:pages])
        return [PageCopy(sequence.slot, index * PAGE_TOKENS, page) for index, page in added]

    def _fulfil(self, key: bytes, sequence: Sequence) -> None:
        if self._promised.get(key) is sequence:
            del self._promised[key]


def pieces(work: list[Work]) -> list[list[Work]]:
    """Return `work`, which did not fit into memory at once, in smaller parts; [] if it cannot be made smaller.

    Decoding sequences are parted from prompts, groups are halved, and so is a long chunk of one prompt.
    """
    decode = [each for each in work if not each.is_prefill]
    if len(work) > 1:
        middle = len(decode) if 0 < len(decode) < len(work) else len(work) // 2
        return [work[:middle], work[middle:]]
    sequence, chunk = work[0]
    if len(chunk.token_ids) <= PREFILL_AT_LEAST_TOKENS:
        return []
    middle = len(chunk.token_ids) // 2
    first, second = chunk.token_ids[:middle], chunk.token_ids[middle:]
    all_rows = chunk.logits == len(chunk.token_ids)
    return [
        [Work(sequence, Chunk(chunk.slot, chunk.start, first, len(first) if all_rows else 0))],
        [Work(sequence, Chunk(chunk.slot, chunk.start + middle, second, len(second) if all_rows else chunk.logits))],
    ]
