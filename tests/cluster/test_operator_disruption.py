"""Draining nodes: what may be evicted, on a real API server and with the disruption controller."""

from tests.support.api import Api
from tests.support.stage import llmservice, pods, serve


async def _allowed(api: Api, count: int) -> bool:
    budget = await api.find("PodDisruptionBudget", "llama")
    return budget is not None and budget.get("status", {}).get("disruptionsAllowed") == count


async def test_only_as_many_replicas_as_the_budget_allows_are_evicted_at_once(operated: Api) -> None:
    await operated.create(llmservice("llama", replicas=2, disruption={"maxUnavailable": 1}))
    await serve(operated, "llama", 2)
    await operated.eventually("one eviction allowed", lambda: _allowed(operated, 1))
    first, second = [pod["metadata"]["name"] for pod in await pods(operated, "llama", "server")]
    assert await operated.evict(first)
    assert not await operated.evict(second)


async def test_a_replica_that_is_not_ready_never_holds_up_a_drain(operated: Api) -> None:
    await operated.create(llmservice("llama", replicas=2, disruption={"maxUnavailable": 1}))
    await serve(operated, "llama", 2)
    await operated.eventually("one eviction allowed", lambda: _allowed(operated, 1))
    broken = (await pods(operated, "llama", "server"))[0]
    unready = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:01:00Z"}
    others = [entry for entry in broken["status"]["conditions"] if entry["type"] != "Ready"]
    await operated.merge("Pod", broken["metadata"]["name"], {"status": {"conditions": [*others, unready]}}, "status")
    await operated.eventually("no eviction allowed", lambda: _allowed(operated, 0))
    assert await operated.evict(broken["metadata"]["name"])


async def test_without_a_budget_in_the_spec_there_is_none(operated: Api) -> None:
    await operated.create(llmservice("llama", disruption={"maxUnavailable": "50%"}))
    await operated.eventually("a budget", lambda: operated.find("PodDisruptionBudget", "llama"))
    await operated.merge("LLMService", "llama", {"spec": {"disruption": None}})

    async def is_gone() -> bool:
        return await operated.find("PodDisruptionBudget", "llama") is None

    await operated.eventually("the budget is gone", is_gone)
