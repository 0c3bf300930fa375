"""The cache of a changing service: what no revision names any more is removed, once, and never what one does."""

from tests.support.api import Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import (
    COMMIT,
    VERDICT,
    finish_warmup,
    llmservice,
    make_pods_ready,
    pods,
    serve,
    sweep_up,
    wait_condition,
)

SECOND, THIRD = ({**VERDICT, "path": f"models/{source * 16}/{COMMIT}"} for source in "23")
LEFTOVERS = "llmservice.dev/leftovers"


async def _ask_for(api: Api, repo: str) -> None:
    await api.merge("LLMService", "llama", {"spec": {"model": {"source": {"huggingFace": {"repo": repo}}}}})


async def _roll_to(api: Api, repo: str, verdict: Manifest) -> None:
    """Change the model and play its warm-up and its rollout."""
    await _ask_for(api, repo)
    await wait_condition(api, "llama", "ModelCached", "False")
    await finish_warmup(api, "llama", verdict)
    await wait_condition(api, "llama", "ModelCached", "True")
    await make_pods_ready(api, "llama", 2)
    await wait_condition(api, "llama", "Ready", "True")


async def _sweep_pod(api: Api) -> Manifest:
    (pod,) = await api.eventually("a pod that sweeps", lambda: pods(api, "llama", "sweep"))
    return dict(pod)


def _kept(pod: Manifest) -> set[str]:
    environment = {item["name"]: item["value"] for item in pod["spec"]["containers"][0]["env"]}
    return set(environment["LLMSERVICE_CACHE_KEEP"].split(","))


async def _swept(api: Api) -> bool:
    claim = await api.get("PersistentVolumeClaim", "llama-cache")
    jobs = [job["metadata"]["name"] for job in await api.all("Job")]
    return LEFTOVERS not in claim["metadata"]["annotations"] and not any("-sweep-" in name for name in jobs)


async def test_a_model_goes_when_the_last_revision_with_it_is_gone(operated: Api) -> None:
    await operated.create(llmservice("llama", rollout={"revisionHistoryLimit": 1}))
    await serve(operated, "llama")
    await _roll_to(operated, "acme/second", SECOND)
    assert await pods(operated, "llama", "sweep") == []
    await _roll_to(operated, "acme/third", THIRD)

    sweeping = await _sweep_pod(operated)
    assert _kept(sweeping) == {SECOND["path"], THIRD["path"]}
    claim = await operated.get("PersistentVolumeClaim", "llama-cache")
    assert claim["metadata"]["annotations"][LEFTOVERS] == VERDICT["path"]
    assert VERDICT["path"] not in claim["metadata"]["annotations"]["llmservice.dev/cached"]
    await sweep_up(operated, sweeping)
    await operated.eventually("all is swept", lambda: _swept(operated))
    await wait_condition(operated, "llama", "Ready", "True", "AllReplicasReady")


async def test_a_warm_up_begins_only_after_the_last_pod_that_could_remove_its_model(operated: Api) -> None:
    await operated.create(llmservice("llama"))
    await serve(operated, "llama")
    await _ask_for(operated, "acme/second")
    await wait_condition(operated, "llama", "ModelCached", "False")
    await operated.eventually("its warm-up", lambda: pods(operated, "llama", "warmup"))
    await _ask_for(operated, "acme/tiny")
    sweeping = await _sweep_pod(operated)
    assert _kept(sweeping) == {VERDICT["path"]}
    name = sweeping["metadata"]["name"]
    await operated.merge("Pod", name, {"metadata": {"finalizers": ["test/hold"]}})

    await _ask_for(operated, "acme/third")
    await wait_condition(operated, "llama", "ModelCached", "False")

    async def is_going() -> bool:
        return "deletionTimestamp" in (await operated.get("Pod", name))["metadata"]

    await operated.eventually("the sweep is taken away", is_going)
    assert not [job for job in await operated.all("Job") if "-warmup-" in job["metadata"]["name"]]
    await operated.merge("Pod", name, {"metadata": {"finalizers": None}})
    await finish_warmup(operated, "llama", THIRD)
    await wait_condition(operated, "llama", "ModelCached", "True")


async def test_an_operator_that_is_started_again_goes_on_with_a_sweep(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace):
        await api.create(llmservice("llama"))
        await serve(api, "llama")
        await _ask_for(api, "acme/second")
        await wait_condition(api, "llama", "ModelCached", "False")
        await _ask_for(api, "acme/tiny")
        sweeping = await _sweep_pod(api)
    await sweep_up(api, sweeping)
    async with running_operator(plane.kubeconfig, api.namespace):
        await api.eventually("all is swept", lambda: _swept(api))
