"""Every metric of the server and the one recorder that counts them; the management port writes them out.

Per step and per request, never per token: at 20 000 tokens a second a counter for each would cost more than the rest.
The same facts go out under three families of names, so that dashboards and autoscalers made for others work unchanged:
ours, OpenTelemetry's for generative AI in Prometheus' spelling, and vLLM's. docs/metrics.md lists them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inference_server.engine.protocol import Step
from inference_server.state import ServerState
from inference_server.web.record import RequestRecord

_REQUEST_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_FIRST_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKEN_COUNTS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
# The buckets of OpenTelemetry's semantic conventions for generative AI.
_GENAI_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_GENAI_FIRST_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_GENAI_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
_GENAI_TOKENS = tuple(4**power for power in range(14))
_GENAI_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")
_OPERATIONS = {"/v1/chat/completions": "chat"}
"""GenAI's word for what a route does; all others complete text."""
_VLLM_LABELS = ("model_name", "engine")


class Metrics:
    """The recorder; each process has one, with a registry of its own. `model` is the model's id in the API."""

    def __init__(self, model: str = "") -> None:
        # A second sample for each counter, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.model = model
        self._kv_tokens = 0
        self._labels: dict[str, tuple[str, ...]] = {}
        ProcessCollector(registry=self.registry)
        self._make_ours()
        self._make_genai()
        self._make_vllm()

    def _make_ours(self) -> None:
        counter, histogram = self._counter, self._histogram
        self._requests = counter("llmservice_requests", "Answered requests.", ("route", "code", "finish_reason"))
        self._rejected = counter("llmservice_rejected_requests", "Requests refused for want of room.", ("reason",))
        self._duration = histogram(
            "llmservice_request_duration_seconds",
            "From the first byte of the request to the last of the answer.",
            _REQUEST_SECONDS,
            ("route",),
        )
        self._first_token = histogram(
            "llmservice_time_to_first_token_seconds", "From admission to the first token.", _FIRST_TOKEN_SECONDS
        )
        self._per_token = histogram(
            "llmservice_time_per_output_token_seconds",
            "Mean time between the tokens of one request after its first.",
            _TOKEN_SECONDS,
        )
        self._queue_wait = histogram(
            "llmservice_queue_wait_seconds",
            "From admission until the engine starts the prompt, for each sequence.",
            _FIRST_TOKEN_SECONDS,
        )
        self._prompt_tokens = counter("llmservice_prompt_tokens", "Prompt tokens of admitted requests.")
        self._completion_tokens = counter("llmservice_completion_tokens", "Tokens generated.")
        self._prefill_tokens = counter("llmservice_prefill_tokens", "Prompt tokens that went through the model.")
        self._cache_queries = counter(
            "llmservice_prefix_cache_query_tokens", "Prompt tokens that were looked up in the prefix cache."
        )
        self._cache_hits = counter("llmservice_prefix_cache_hit_tokens", "Prompt tokens that the prefix cache held.")
        self._step = histogram("llmservice_engine_step_seconds", "Duration of one engine step.", _TOKEN_SECONDS)
        self._batch = histogram("llmservice_engine_batch_size", "Sequences advanced by one step.", _BATCH_SIZES)

    def _make_genai(self) -> None:
        labels = (*_GENAI_LABELS, "error_type")
        self._genai_duration = self._histogram(
            "gen_ai_server_request_duration_seconds", "Duration of a request.", _GENAI_SECONDS, labels
        )
        self._genai_first_token = self._histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time to the first token of an answer.",
            _GENAI_FIRST_SECONDS,
            _GENAI_LABELS,
        )
        self._genai_per_token = self._histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per token of an answer after its first.",
            _GENAI_TOKEN_SECONDS,
            _GENAI_LABELS,
        )
        self._genai_tokens = self._histogram(
            "gen_ai_client_token_usage",
            "Tokens of a request, by gen_ai_token_type: input or output.",
            _GENAI_TOKENS,
            (*_GENAI_LABELS, "gen_ai_token_type"),
        )

    def _make_vllm(self) -> None:
        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            made = self._histogram(f"vllm:{name}", text, buckets, _VLLM_LABELS)
            return made.labels(self.model, "0")

        self._vllm_first_token = histogram(
            "time_to_first_token_seconds", "Time to the first token.", _GENAI_FIRST_SECONDS
        )
        self._vllm_per_token = histogram(
            "request_time_per_output_token_seconds", "Time per token after the first.", _GENAI_TOKEN_SECONDS
        )
        self._vllm_latency = histogram("e2e_request_latency_seconds", "Duration of a request.", _REQUEST_SECONDS)
        self._vllm_queue = histogram("request_queue_time_seconds", "Time in the waiting line.", _REQUEST_SECONDS)
        self._vllm_prefill = histogram("request_prefill_time_seconds", "From slot to first token.", _REQUEST_SECONDS)
        self._vllm_decode = histogram("request_decode_time_seconds", "From first to last token.", _REQUEST_SECONDS)
        self._vllm_iteration = histogram("iteration_tokens_total", "Tokens of one engine step.", _TOKEN_COUNTS)
        self._vllm_prompt = histogram("request_prompt_tokens", "Prompt tokens of a request.", _TOKEN_COUNTS)
        self._vllm_generation = histogram("request_generation_tokens", "Tokens of an answer.", _TOKEN_COUNTS)
        self._vllm_success = self._counter(
            "vllm:request_success", "Requests that were answered to their end.", (*_VLLM_LABELS, "finished_reason")
        )

    def watch(self, state: ServerState) -> None:
        """Read the gauges from `state` whenever they are asked for."""

        def gauge(name: str, text: str, read: str) -> None:
            Gauge(name, text, registry=self.registry).set_function(lambda: float(getattr(state.load(), read)))

        gauge("llmservice_requests_running", "Sequences in a slot.", "running")
        gauge("llmservice_requests_waiting", "Sequences waiting for a slot.", "waiting")
        gauge("llmservice_slots", "Sequences that can run at once.", "slots")
        gauge("llmservice_waiting_tokens", "Tokens of waiting sequences, prompt and completion.", "waiting_tokens")
        gauge("llmservice_kv_capacity_tokens", "Tokens that the KV memory can hold.", "kv_capacity_tokens")
        kv_tokens = Gauge(
            "llmservice_kv_tokens", "Tokens of running sequences in the KV memory.", registry=self.registry
        )
        kv_tokens.set_function(lambda: float(self._kv_in_use(state)))
        ready = Gauge("llmservice_ready", "1 while requests can be answered.", registry=self.registry)
        ready.set_function(lambda: float(state.unready_because() is None))
        view = _VllmView(self, state)
        self._labels |= dict.fromkeys((family.name for family in view.collect()), _VLLM_LABELS)
        self.registry.register(view)

    def request_answered(self, route: str, code: int, record: RequestRecord, seconds: float) -> None:
        """Count one answered request; `route` is a path of ours, never the client's words."""
        self._requests.labels(route, str(code), record.finish_reason or "").inc()
        self._duration.labels(route).observe(seconds)
        if record.prompt_tokens is None:
            return
        genai = (_OPERATIONS.get(route, "text_completion"), "llmservice", self.model, self.model)
        self._genai_duration.labels(*genai, record.error_code or "").observe(seconds)
        self._genai_tokens.labels(*genai, "input").observe(record.prompt_tokens)
        self._vllm_latency.observe(seconds)
        self._vllm_prompt.observe(record.prompt_tokens)
        if record.first_token_seconds is not None:
            self._first_token.observe(record.first_token_seconds)
            self._genai_first_token.labels(*genai).observe(record.first_token_seconds)
            self._vllm_first_token.observe(record.first_token_seconds)
            self._vllm_prefill.observe(max(record.first_token_seconds - (record.queue_seconds or 0.0), 0.0))
            self._completed(genai, record)
        if record.finish_reason in ("stop", "length"):
            self._vllm_success.labels(self.model, "0", record.finish_reason).inc()

    def _completed(self, genai: Sequence[str], record: RequestRecord) -> None:
        tokens, seconds = record.completion_tokens or 0, record.decode_seconds or 0.0
        self._genai_tokens.labels(*genai, "output").observe(tokens)
        self._vllm_generation.observe(tokens)
        self._vllm_decode.observe(seconds)
        # Choices run side by side, so each of them had this time for its own tokens.
        per_choice = tokens / max(record.choices, 1)
        if per_choice > 1:
            per_token = seconds / (per_choice - 1)
            self._per_token.observe(per_token)
            self._genai_per_token.labels(*genai).observe(per_token)
            self._vllm_per_token.observe(per_token)

    def request_rejected(self, reason: str) -> None:
        """Count one request that was refused before it reached the engine."""
        self._rejected.labels(reason).inc()

    def prompts_admitted(self, tokens: int) -> None:
        """Count the tokens of the prompts of one admitted request."""
        self._prompt_tokens.inc(tokens)

    def sequence_started(self, queue_seconds: float, prompt_tokens: int, cached_tokens: int) -> None:
        """Note how long one sequence waited for its slot, and how much of its prompt was cached."""
        self._queue_wait.observe(queue_seconds)
        self._vllm_queue.observe(queue_seconds)
        self._cache_queries.inc(prompt_tokens)
        self._cache_hits.inc(cached_tokens)

    def step(self, step: Step) -> None:
        """Note one engine step."""
        self._step.observe(step.seconds)
        if step.decode_tokens:
            self._batch.observe(step.decode_tokens)
        if worked := step.prefill_tokens + step.tokens:
            self._vllm_iteration.observe(worked)
        self._prefill_tokens.inc(step.prefill_tokens)
        self._completion_tokens.inc(step.tokens)
        self._kv_tokens = step.kv_tokens

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def labels(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the labels of each metric that has any, for the page that lists them."""
        return self._labels

    def vllm_totals(self) -> Iterator[tuple[str, str, float]]:
        """Yield name, meaning and value of vLLM's counters that count what ours count."""
        for name, text, ours in (
            ("prompt_tokens", "Prompt tokens.", self._prompt_tokens),
            ("generation_tokens", "Tokens generated.", self._completion_tokens),
            ("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", self._cache_queries),
            ("prefix_cache_hits", "Prompt tokens found in the prefix cache.", self._cache_hits),
        ):
            (family,) = ours.collect()
            yield name, text, next(sample.value for sample in family.samples)

    def vllm_gauges(self, state: ServerState) -> Iterator[tuple[str, str, float]]:
        """Yield name, meaning and value of vLLM's gauges."""
        load = state.load()
        yield "num_requests_running", "Sequences in a slot.", load.running
        yield "num_requests_waiting", "Sequences waiting for a slot.", load.waiting
        usage = self._kv_in_use(state) / load.kv_capacity_tokens if load.kv_capacity_tokens else 0.0
        yield "kv_cache_usage_perc", "Share of the KV memory in use; 1 is all of it.", usage

    def _kv_in_use(self, state: ServerState) -> int:
        # No step follows the cancellation of the last sequence, so none reports the memory it has freed.
        return self._kv_tokens if state.load().running else 0

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        self._labels[name] = tuple(labels)
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        self._labels[name] = tuple(labels)
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)


class _VllmView(Collector):
    """What vLLM counts under other names than ours, read when asked for: counting twice could differ."""

    def __init__(self, metrics: Metrics, state: ServerState) -> None:
        self._metrics = metrics
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        labels = [self._metrics.model, "0"]
        for name, text, value in self._metrics.vllm_totals():
            counter = CounterMetricFamily(f"vllm:{name}", text, labels=_VLLM_LABELS)
            counter.add_metric(labels, value)
            yield counter
        for name, text, value in self._metrics.vllm_gauges(self._state):
            gauge = GaugeMetricFamily(f"vllm:{name}", text, labels=_VLLM_LABELS)
            gauge.add_metric(labels, value)
            yield gauge
