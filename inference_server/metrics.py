"""Every metric of the server and the one recorder that counts them; the management port writes them out.

Per step and per request, never per token: at 20 000 tokens a second a counter for each would cost more than the rest.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from inference_server.state import ServerState

_REQUEST_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_FIRST_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The recorder; each process has one, with a registry of its own."""

    def __init__(self) -> None:
        # A second sample for each counter, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "llmservice_requests", "Answered requests.", ("route", "code", "finish_reason"), registry=registry
        )
        self._rejected = Counter("llmservice_rejected_requests", "Refused requests.", ("reason",), registry=registry)
        self._duration = Histogram(
            "llmservice_request_duration_seconds",
            "From the first byte of the request to the last of the answer.",
            ("route",),
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self._first_token = Histogram(
            "llmservice_time_to_first_token_seconds",
            "From admission to the first token.",
            buckets=_FIRST_TOKEN_SECONDS,
            registry=registry,
        )
        self._per_token = Histogram(
            "llmservice_time_per_output_token_seconds",
            "Mean time between the tokens of one request after its first.",
            buckets=_TOKEN_SECONDS,
            registry=registry,
        )
        self._queue_wait = Histogram(
            "llmservice_queue_wait_seconds",
            "From admission until the engine starts the prompt.",
            buckets=_FIRST_TOKEN_SECONDS,
            registry=registry,
        )
        self._prompt_tokens = Counter(
            "llmservice_prompt_tokens", "Prompt tokens of admitted requests.", registry=registry
        )
        self._completion_tokens = Counter("llmservice_completion_tokens", "Tokens generated.", registry=registry)
        self._step = Histogram(
            "llmservice_engine_step_seconds", "Duration of one engine step.", buckets=_TOKEN_SECONDS, registry=registry
        )
        self._batch = Histogram(
            "llmservice_engine_batch_size", "Sequences advanced by one step.", buckets=_BATCH_SIZES, registry=registry
        )

    def watch(self, state: ServerState) -> None:
        """Read the gauges from `state` whenever they are asked for."""

        def gauge(name: str, text: str, read: str) -> None:
            Gauge(name, text, registry=self.registry).set_function(lambda: float(getattr(state.load(), read)))

        gauge("llmservice_requests_running", "Sequences in a slot.", "running")
        gauge("llmservice_requests_waiting", "Sequences waiting for a slot.", "waiting")
        gauge("llmservice_slots", "Sequences that can run at once.", "slots")
        ready = Gauge("llmservice_ready", "1 while requests can be answered.", registry=self.registry)
        ready.set_function(lambda: float(state.unready_because() is None))

    def request_answered(self, route: str, code: int, finish_reason: str, seconds: float) -> None:
        """Count one answered request; `route` is a path of ours, never the client's words."""
        self._requests.labels(route, str(code), finish_reason).inc()
        self._duration.labels(route).observe(seconds)

    def request_rejected(self, reason: str) -> None:
        """Count one request that was refused before it reached the engine."""
        self._rejected.labels(reason).inc()

    def prompt_admitted(self, tokens: int) -> None:
        """Count the tokens of one admitted prompt."""
        self._prompt_tokens.inc(tokens)

    def sequence_started(self, queue_seconds: float) -> None:
        """Note how long one sequence waited for its slot."""
        self._queue_wait.observe(queue_seconds)

    def sequence_ended(self, first_token_seconds: float, decode_seconds: float, tokens: int) -> None:
        """Note the pace of one sequence; `decode_seconds` is from its first to its last token."""
        self._first_token.observe(first_token_seconds)
        if tokens > 1:
            self._per_token.observe(decode_seconds / (tokens - 1))

    def step(self, seconds: float, sequences: int, tokens: int) -> None:
        """Note one engine step that advanced `sequences` by `tokens` in all."""
        self._step.observe(seconds)
        if sequences:
            self._batch.observe(sequences)
        self._completion_tokens.inc(tokens)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
