"""One recorder, three families of names for the same facts."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.model_server import RunningServer, eventually, running_server

BODY: dict[str, Any] = {"model": "tiny", "prompt": "x" * 40, "max_tokens": 10, "temperature": 0}
OF_COMPLETIONS = {
    "gen_ai_operation_name": "text_completion",
    "gen_ai_provider_name": "llmservice",
    "gen_ai_request_model": "tiny",
    "gen_ai_response_model": "tiny",
}
OF_VLLM = {"model_name": "tiny", "engine": "0"}


def value(server: RunningServer, name: str, **labels: str) -> float | None:
    """Return a sample as a scraper reads it."""
    for family in text_string_to_metric_families(server.metrics.text().decode()):
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return sample.value
    return None


async def test_requests_and_tokens_are_counted_alike_in_all_families() -> None:
    async with running_server() as server:
        for _ in range(2):
            await server.http.post("/v1/completions", json={**BODY, "n": 2})
        await server.http.post("/v1/completions", json={**BODY, "n": 99})
        assert value(server, "llmservice_prompt_tokens_total") == 80
        assert value(server, "vllm:prompt_tokens_total", **OF_VLLM) == 80
        assert value(server, "llmservice_completion_tokens_total") == 40
        assert value(server, "vllm:generation_tokens_total", **OF_VLLM) == 40
        assert value(server, "vllm:request_success_total", **OF_VLLM, finished_reason="length") == 2
        for name, labels in {
            "llmservice_time_to_first_token_seconds": {},
            "llmservice_time_per_output_token_seconds": {},
            "gen_ai_server_time_to_first_token_seconds": OF_COMPLETIONS,
            "gen_ai_server_time_per_output_token_seconds": OF_COMPLETIONS,
            "gen_ai_server_request_duration_seconds": {**OF_COMPLETIONS, "error_type": ""},
            "vllm:time_to_first_token_seconds": OF_VLLM,
            "vllm:e2e_request_latency_seconds": OF_VLLM,
        }.items():
            assert value(server, f"{name}_count", **labels) == 2, name
        usage = "gen_ai_client_token_usage_sum"
        assert value(server, usage, **OF_COMPLETIONS, gen_ai_token_type="input") == 80
        assert value(server, usage, **OF_COMPLETIONS, gen_ai_token_type="output") == 40


async def test_a_stream_that_breaks_has_no_finish_reason_and_every_other_answer_has_one() -> None:
    async with running_server(fake_fault="nan", fake_fault_after=2) as server:
        for body in (BODY, {**BODY, "stream": True}, {**BODY, "max_tokens": 1000, "stream": True}):
            await server.http.post("/v1/completions", json=body)
        answered = {"route": "/v1/completions", "code": "200"}
        assert value(server, "llmservice_requests_total", **answered, finish_reason="length") == 2
        assert value(server, "llmservice_requests_total", **answered, finish_reason="") == 1


async def test_the_prefix_cache_is_counted_in_tokens() -> None:
    async with running_server() as server:
        for _ in range(2):
            await server.http.post("/v1/completions", json=BODY)
        for ours, vllm in (("query_tokens", "queries"), ("hit_tokens", "hits")):
            assert value(server, f"llmservice_prefix_cache_{ours}_total") == {"queries": 80, "hits": 32}[vllm]
            assert value(server, f"vllm:prefix_cache_{vllm}_total", **OF_VLLM) == {"queries": 80, "hits": 32}[vllm]
        assert value(server, "llmservice_prefill_tokens_total") == 48


async def test_gauges_show_what_runs_and_waits_and_what_memory_it_takes() -> None:
    async with running_server(max_batch_size=1, max_model_len=1000, fake_tokens_per_second=50.0) as server:
        long = {**BODY, "max_tokens": 900}
        tasks = [asyncio.create_task(server.http.post("/v1/completions", json=long)) for _ in range(3)]
        await eventually(lambda: server.client.load().running == 1 and server.client.in_flight == 3)
        await eventually(lambda: (value(server, "llmservice_kv_tokens") or 0) > 40)
        assert value(server, "vllm:num_requests_running", **OF_VLLM) == 1
        assert value(server, "vllm:num_requests_waiting", **OF_VLLM) == 2
        assert value(server, "llmservice_waiting_tokens") == 2 * 940
        assert 0.04 <= (value(server, "vllm:kv_cache_usage_perc", **OF_VLLM) or 0) < 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await eventually(lambda: value(server, "vllm:kv_cache_usage_perc", **OF_VLLM) == 0)
