"""The waiting room and the states in which requests are refused."""

from __future__ import annotations

import asyncio
import math

from tests.support.model_server import eventually, running_server, starting_server

SLOW = {"text": "hello", "max_tokens": 8000}


async def test_one_request_more_than_slots_and_places_is_a_429_with_retry_after() -> None:
    async with running_server(max_batch_size=1, max_queue_depth=2, fake_tokens_per_second=20.0) as server:
        tasks = [asyncio.create_task(server.http.post("/generate", json=SLOW)) for _ in range(3)]
        await eventually(lambda: server.client.in_flight == 3)
        await eventually(lambda: server.client.load().running == 1)
        refused = await server.http.post("/v1/completions", json={"model": "tiny", "prompt": "hello"})
        load = server.client.load()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.json()["error"]["code"] == "queue_full"
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert refused.headers["x-llm-drop-reason"] == "queue_full"
    assert (load.running, load.waiting, load.slots) == (1, 2, 1)


async def test_the_waiting_room_is_bounded_by_tokens_too_and_a_full_one_reads_no_body() -> None:
    body = {"text": "hello", "max_tokens": 120}
    async with running_server(max_batch_size=1, max_model_len=128, fake_tokens_per_second=20.0) as server:
        # One fills the KV memory, and four refills of it may wait: 5 times 125 tokens of 5 times 128.
        tasks = [asyncio.create_task(server.http.post("/generate", json=body)) for _ in range(5)]
        await eventually(lambda: server.client.load().waiting == 4)
        refused = await server.http.post("/generate", json=body)
        small = asyncio.create_task(server.http.post("/generate", json={"text": "hi", "max_tokens": 13}))
        await eventually(lambda: server.client.load().waiting == 5)
        await eventually(lambda: server.client.tokens_in_flight == 5 * 128)
        no_json = await server.http.post("/generate", content=b"[", headers={"content-type": "application/json"})
        for task in (*tasks, small):
            task.cancel()
        await asyncio.gather(*tasks, small, return_exceptions=True)
    assert (refused.status_code, no_json.status_code) == (429, 429)


async def test_retry_after_is_the_measured_time_in_a_slot_times_the_line() -> None:
    async with running_server(max_batch_size=2, max_queue_depth=4, fake_tokens_per_second=50.0) as server:
        # Two slots, each held for 1 s: the seventh waits for the four before it and one place, 2.5 s.
        await server.http.post("/generate", json={"text": "hello", "max_tokens": 50})
        tasks = [asyncio.create_task(server.http.post("/generate", json=SLOW)) for _ in range(6)]
        await eventually(lambda: server.client.in_flight == 6)
        refused = await server.http.post("/generate", json=SLOW)
        wait = server.client.wait_seconds(5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert wait is not None
    assert wait >= 2.4
    assert refused.headers["retry-after"] == str(math.ceil(wait))


async def test_a_waiting_request_gets_its_turn() -> None:
    async with running_server(max_batch_size=1, max_queue_depth=5) as server:
        answers = await asyncio.gather(
            *(server.http.post("/generate", json={"text": f"hello {n}", "max_tokens": 5}) for n in range(6))
        )
    assert [answer.status_code for answer in answers] == [200] * 6


async def test_many_requests_run_at_once_and_each_gets_its_own_text() -> None:
    body = {"model": "tiny", "max_tokens": 30, "temperature": 0}
    async with running_server(max_batch_size=32) as server:
        alone = [
            (await server.http.post("/v1/completions", json={**body, "prompt": f"p{n}"})).json() for n in range(32)
        ]
        together = await asyncio.gather(
            *(server.http.post("/v1/completions", json={**body, "prompt": f"p{n}"}) for n in range(32))
        )
    texts = [answer["choices"][0]["text"] for answer in alone]
    assert [answer.json()["choices"][0]["text"] for answer in together] == texts
    assert len(set(texts)) == 32


async def test_while_the_model_loads_requests_are_a_503_with_retry_after_and_health_says_so() -> None:
    async with starting_server(fake_load_seconds=30.0) as server:
        await eventually(lambda: server.state.progress is not None)
        answer = await server.http.post("/v1/completions", json={"model": "tiny", "prompt": "hello"})
        generate = await server.http.post("/generate", json={"text": "hello"})
        health = await server.http.get("/health")
        state = server.state.document()
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "model_starting"
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert generate.status_code == 503
    assert "still being loaded" in generate.json()["detail"]
    assert (health.status_code, health.json()) == (503, {"status": "loading"})
    assert (state["phase"], state["progress"]["unit"], state["progress"]["total"]) == ("Loading", "tensors", 100)


async def test_a_ready_server_is_healthy() -> None:
    async with running_server() as server:
        health = await server.http.get("/health")
    assert (health.status_code, health.json()) == (200, {"status": "healthy"})


async def test_a_draining_server_still_answers_and_asks_the_client_to_go_elsewhere() -> None:
    async with running_server() as server:
        server.state.enter("Draining")
        answer = await server.http.post("/generate", json={"text": "hello", "max_tokens": 3})
        health = await server.http.get("/health")
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"
    assert (health.status_code, health.json()) == (503, {"status": "draining"})
