"""What goes to the web process and when: at once what somebody waits for, and the tokens of streams a few at a time.

Waking the web process costs up to half a millisecond of a core whose caches the model has filled, which is more than
all that it does then, and each stream that it wakes costs some 50 µs more. So a stream gets its first token and its
end at once, and what lies between every STREAM_SECONDS, or less often the more streams there are. 20 pieces of text a
second are still faster than anyone reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec import structs

from inference_server.engine.interface import GenerationRequest, SequenceOutput, Started, StepOutput
from inference_server.engine.protocol import Step, Stepped

STREAM_SECONDS = 0.02
LONGEST_HOLD_SECONDS = 0.05
PIECES_PER_SECOND = 200
"""How many pieces all streams together get, unless LONGEST_HOLD_SECONDS asks for more."""


class Outbox:
    """Collects what steps put out and hands it to `send`, merged for each sequence.

    What is held leaves at the end of the first step where it is due, and before any step that may be a long one.
    """

    def __init__(self, send: Callable[[Stepped], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._unseen: set[str] = set()
        """The sequences that no token has come of yet."""
        self._stepwise: set[str] = set()
        """Those whose every token is wanted at once."""
        self._held: dict[str, SequenceOutput] = {}
        self._steps: list[Step] = []
        self._began = self._flushed = clock()

    def expect(self, request: GenerationRequest) -> None:
        """Send the first token of this new sequence at once; and now what is held, as a prefill takes long."""
        self._unseen.add(request.request_id)
        if request.delivery == "step":
            self._stepwise.add(request.request_id)
        self.flush()

    def forget(self, request_id: str) -> None:
        """Send nothing more of a sequence that was cancelled."""
        self._held.pop(request_id, None)
        self._unseen.discard(request_id)
        self._stepwise.discard(request_id)

    def stepped(self, output: StepOutput, began: float) -> None:
        """Take what a step put out that `began` then and has just ended; send what is urgent, and all if it is due."""
        now, tokens = self._clock(), 0
        urgent = []
        for each in output.outputs:
            tokens += len(each.token_ids)
            held = self._held.pop(each.request_id, None)
            merged = each if held is None else _merged(held, each)
            if self._is_urgent(each):
                urgent.append(merged)
            else:
                self._held[each.request_id] = merged
        self._began = began
        self._steps.append(Step(now - began, tokens, output.prefill_tokens, output.decode_tokens, output.kv_tokens))
        hold = min(max(len(self._held) / PIECES_PER_SECOND, STREAM_SECONDS), LONGEST_HOLD_SECONDS)
        if now - self._flushed >= hold:
            self._flush(now, urgent, output.started)
        elif urgent or output.started:
            self._emit(urgent, output.started)

    def flush(self) -> None:
        """Send what is held."""
        if self._held or self._steps:
            self._flush(self._clock(), [], [])

    def _is_urgent(self, output: SequenceOutput) -> bool:
        name = output.request_id
        if output.finish_reason is not None:
            self.forget(name)
            return True
        is_first = name in self._unseen and bool(output.token_ids)
        if is_first:
            self._unseen.remove(name)
        return is_first or name in self._stepwise

    def _flush(self, now: float, urgent: Sequence[SequenceOutput], started: Sequence[Started]) -> None:
        self._flushed = now
        held, self._held = self._held, {}
        self._emit([*urgent, *held.values()], started)

    def _emit(self, outputs: Sequence[SequenceOutput], started: Sequence[Started]) -> None:
        steps, self._steps = self._steps, []
        self._send(Stepped(outputs=list(outputs), started=list(started), steps=steps, began=self._began))


def _merged(first: SequenceOutput, then: SequenceOutput) -> SequenceOutput:
    return structs.replace(
        then,
        token_ids=first.token_ids + then.token_ids,
        logprobs=first.logprobs + then.logprobs,
        prompt_logprobs=first.prompt_logprobs + then.prompt_logprobs,
    )
