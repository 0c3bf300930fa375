"""What an engine is: the contract between the web process, the engine process and the implementations.

The web process owns text: it renders chat templates, encodes prompts, decodes tokens, cuts at stop strings and counts
usage, all without torch (`inference_server.text`). An engine owns the scheduler, the KV memory, the model and the
sampling, and sees token ids only: several choices of one prompt (`n`) are several sequences, a stop string is a
cancellation. The two talk over a socket in the messages of `engine.protocol`, at most one for a
step, so this file fixes the data and `engine.process` drives any object of type `Engine`.

The structs are msgspec's: frozen, typed on both ends of the socket, and encoded without copying field by field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

Delivery = Literal["step", "stream", "end"]
"""When what a sequence generates is wanted: at every step, because it may have to be stopped there; often enough for a
stream; or only when it has ended, because nothing is shown before."""

FinishReason = Literal["stop", "length", "cancelled", "error"]
"""Why a sequence ended: an end-of-sequence token, a length limit, a cancellation, or `SequenceOutput.error`."""


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine process needs to know to load: its part of the settings, sent as the first message.

    `quantization`, `compute_dtype` and `device` hold the settings' words (`auto`, `nf4`, …). `max_model_len` None
    means what the model's own config says, capped at 8192.
    """

    engine: Literal["transformers", "fake"] = "transformers"
    model_path: str | None = None
    expected_digest: str | None = None
    quantization: Literal["auto", "nf4", "fp4", "int8", "none"] = "auto"
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    double_quant: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_model_len: int | None = None
    max_batch_size: int = 8
    prefix_cache: bool = True
    log_format: Literal["json", "text"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    fake: FakeConfig | None = None


class FakeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The token clock and the fault switch of the fake engine; docs/fake-engine.md explains each."""

    first_token_seconds: float = 0.0
    tokens_per_second: float = 1000.0
    load_seconds: float = 0.0
    bytes_per_token: int = 0
    fault: Literal["none", "oom", "hang", "death", "nan", "load-failure"] = "none"
    fault_after: int = 0


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far loading is; `done` must grow at least every 10 minutes, else the load counts as hung."""

    done: int
    total: int
    unit: str
    eta_seconds: float | None = None


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known once the model is loaded.

    `max_model_len` bounds prompt plus completion, in tokens. `slots` is how many sequences run at once. Every token id
    in a request is below `vocabulary_size`. `kv_tokens` is what all slots together can hold.
    `longest_step_seconds` is how long a healthy step may take at worst (a full prefill on a slow CPU); a step that
    takes longer counts as a hang and ends the process.
    """

    max_model_len: int
    slots: int
    quantization: Literal["nf4", "fp4", "int8", "none"]
    device: str
    longest_step_seconds: float
    vocabulary_size: int
    kv_tokens: int


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How one sequence is sampled.

    `temperature` 0 is greedy. `seed` is unsigned 64 bits; with None the engine draws one. `max_tokens` is at least 1
    and, with the prompt, at most `max_model_len`: the web process has checked both. The penalties, -2 to 2, are
    OpenAI's: subtracted from the logit of each token that the completion already holds, once (`presence_penalty`) and
    per occurrence (`frequency_penalty`). `logit_bias` adds to the logits of its token ids. All three act before
    temperature and before log-probabilities are taken. `ignore_eos` lets the sequence run to `max_tokens`.

    `logprobs` asks for the log-probability of every new token, and beside it for those of that many most likely ones
    (0 to 20); `prompt_logprobs` asks the same of the prompt's tokens. They are taken from the model's distribution at
    temperature 1, after bias and penalties.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True, tag="generate"):
    """One sequence to generate. `request_id` is unique among the sequences in flight.

    Of two waiting sequences the one of lower `priority` starts first, and of one priority the one that came first.
    Only requests of one `tenant` share what the prefix cache holds. An empty prompt is not sent.
    """

    request_id: str
    prompt_token_ids: list[int]
    sampling: SamplingParams
    priority: int = 0
    tenant: str = ""
    delivery: Delivery = "step"


class TokenLogprobs(msgspec.Struct, frozen=True, array_like=True):
    """The log-probability of a token, and the most likely tokens at its place with theirs, likeliest first."""

    token_id: int
    logprob: float
    top: list[tuple[int, float]] = []


class SequenceError(msgspec.Struct, frozen=True, kw_only=True):
    """Why one sequence failed while the engine lives on; `message` goes to the client, so it holds no internals."""

    code: Literal["out_of_memory", "non_finite_logits", "generation_error"]
    message: str


class SequenceOutput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one step added to one sequence, or several steps whose outputs are merged on their way.

    `token_ids` are the new tokens in order, without the end-of-sequence token. After an output with a
    `finish_reason` the engine has forgotten the sequence and its slot is free. `error` is set if and only if
    `finish_reason` is "error". `logprobs` has one entry for each of `token_ids` if the request asked for them.
    `prompt_logprobs` come in pieces, in the order of the prompt and all before the first token; the first token of a
    prompt has none, so a prompt of n tokens gets n - 1.
    """

    request_id: str
    token_ids: list[int] = []
    logprobs: list[TokenLogprobs] = []
    prompt_logprobs: list[TokenLogprobs] = []
    finish_reason: FinishReason | None = None
    error: SequenceError | None = None


class Started(msgspec.Struct, frozen=True, array_like=True):
    """A sequence that left the waiting line; `cached_tokens` of its prompt came from the prefix cache."""

    request_id: str
    cached_tokens: int = 0


class StepOutput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one engine step did, for all sequences.

    `started` are the sequences whose prefill has begun in this step. `prefill_tokens` is how many prompt tokens went
    through the model, `decode_tokens` how many sequences it advanced by a token, and `kv_tokens` how many tokens of
    running sequences the KV memory holds after it.
    """

    outputs: list[SequenceOutput] = []
    started: list[Started] = []
    prefill_tokens: int = 0
    decode_tokens: int = 0
    kv_tokens: int = 0


class LoadFailure(Exception):  # noqa: N818 - a failure is what the state document and the conditions call it
    """The model cannot be loaded; `reason` is one of conditions.md, and the process ends with `exit_code`.

    78 is for a configuration that can never work here (no accelerator), 70 for everything else.
    """

    def __init__(self, message: str, *, reason: str = "EngineFailed", exit_code: int = 70) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code


class Engine(Protocol):
    """An engine, driven step by step from one thread by `engine.process`; no method needs to be thread-safe.

    Between two steps `process` hands over whatever has arrived (`add`, `cancel`), so a sequence that is cancelled is
    gone at the next step. An exception out of `step` other than a sequence's own error is the engine's death.
    """

    def load(self, report: Callable[[Progress], None]) -> ModelInfo:
        """Load the model, reporting progress.

        Raises:
            LoadFailure: the model cannot be served; the message says why and what to do.
        """
        ...

    def add(self, request: GenerationRequest) -> None:
        """Put a sequence into the waiting line."""
        ...

    def cancel(self, request_id: str) -> None:
        """Forget a sequence and free its slot, without output; an unknown id is not an error."""
        ...

    def has_work(self) -> bool:
        """Whether any sequence is waiting or running."""
        ...

    def step(self) -> StepOutput:
        """Run one step for all running sequences, taking waiting ones into free slots first.

        Called only while `has_work()`. May block for one forward pass, never for more work to come.
        """
        ...
