"""Another version of the operator, or another profile, takes over services that run, on a real API server."""

from tests.support.api import Api
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import llmservice, make_ready, pods, serve, wait_condition

CHANGED = {"maxTokens": 512, "requests": {"cpu": "3", "memory": "8Gi"}}


async def _server_pods(api: Api) -> set[str]:
    return {pod["metadata"]["uid"] for pod in await pods(api, "llama", "server")}


async def test_an_upgrade_replaces_no_pod_until_somebody_asks_for_it(plane: ControlPlane, namespace: str) -> None:
    async with Api(plane, namespace) as api:
        async with running_operator(plane.kubeconfig, namespace):
            await api.create(llmservice("llama"))
            await serve(api, "llama")
        before = await _server_pods(api)
        async with running_operator(plane.kubeconfig, namespace, profile=CHANGED):
            pending = await wait_condition(api, "llama", "UpdatePending", "True", "OperatorUpgraded")
            fields = pending["status"]["operator"]["pendingSummary"]
            assert fields == "spec.containers[server].resources.requests.cpu, environment.MAX_TOKENS"
            await wait_condition(api, "llama", "Ready", "True")
            assert await _server_pods(api) == before
            await api.merge("LLMService", "llama", {"metadata": {"annotations": {"llmservice.dev/apply-update": "1"}}})

            async def is_replaced() -> bool:
                for pod in await pods(api, "llama", "server"):
                    await make_ready(api, pod)
                found = await _server_pods(api)
                return len(found) == 1 and found.isdisjoint(before)

            await api.eventually("the pod is replaced", is_replaced)
            await wait_condition(api, "llama", "UpdatePending", "False")
            await wait_condition(api, "llama", "Ready", "True")
