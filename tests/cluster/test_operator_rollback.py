"""F53: changes that fail are taken back on a real API server, with the real Deployment controller."""

import json

from tests.support.api import Api, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import condition, crash, llmservice, make_ready, pods, serve, wait_condition, wait_in

REVISION = "llmservice.dev/revision"
LONGER, LONGEST = {"spec": {"engine": {"maxModelLen": 2048}}}, {"spec": {"engine": {"maxModelLen": 4096}}}


async def _revision(api: Api) -> str:
    deployment = await api.get("Deployment", "llama")
    return str(deployment["spec"]["template"]["metadata"]["labels"][REVISION])


async def _new_pod(api: Api, old: str) -> Manifest:
    """Return the pod of a revision other than `old`, once there is one, and on a node.

    The scheduler finds none for it, and says so once more whenever something changes: first it is waited for, then the
    pod is taken out of its hands.
    """

    async def found() -> Manifest | None:
        mine = await pods(api, "llama", "server")
        new = [pod for pod in mine if pod["metadata"]["labels"][REVISION] != old]
        return next((pod for pod in new if condition(pod, "PodScheduled")["status"] == "False"), None)

    pod: Manifest = await api.eventually("a pod of the new revision", found)
    await api.bind(pod["metadata"]["name"], "node")
    return pod


async def _fail(api: Api, edit: Manifest) -> tuple[str, Manifest]:
    """Serve, change the spec, let the new replica crash; return the old revision and the LLMService rolled back."""
    await api.create(llmservice("llama", replicas=2))
    await serve(api, "llama", 2)
    old = await _revision(api)
    await api.merge("LLMService", "llama", edit)
    await crash(api, await _new_pod(api, old))
    return old, await wait_condition(api, "llama", "Stalled", "True", "RolledBack")


async def test_a_crashing_change_is_taken_back_and_the_old_replicas_are_never_touched(operated: Api) -> None:
    await operated.create(llmservice("llama", replicas=2))
    await serve(operated, "llama", 2)
    before = {pod["metadata"]["uid"] for pod in await pods(operated, "llama", "server")}
    old = await _revision(operated)
    await operated.merge("LLMService", "llama", LONGER)
    await crash(operated, await _new_pod(operated, old))
    back = await wait_condition(operated, "llama", "Stalled", "True", "RolledBack")
    assert await _revision(operated) == old
    assert {pod["metadata"]["uid"] for pod in await pods(operated, "llama", "server")} == before
    rollout = back["status"]["rollout"]
    assert rollout["currentRevision"] == rollout["lastGoodRevision"] == old
    assert rollout["rejectedRevision"] not in (old, None)
    assert [item["result"] for item in rollout["history"]] == ["Good", "Rejected"]
    assert {event["reason"] for event in await operated.all("Event", "")} >= {"RolledBack"}


async def test_a_new_spec_rolls_out_at_once_after_a_failed_one(operated: Api) -> None:
    old, back = await _fail(operated, LONGER)
    await operated.merge("LLMService", "llama", LONGEST)
    pod = await _new_pod(operated, old)
    assert pod["metadata"]["labels"][REVISION] != back["status"]["rollout"]["rejectedRevision"]


async def test_taking_the_change_back_by_hand_is_ready_at_once(operated: Api) -> None:
    old, _ = await _fail(operated, LONGER)
    await operated.merge("LLMService", "llama", {"spec": {"engine": {"maxModelLen": None}}})
    ready = await wait_condition(operated, "llama", "Ready", "True")
    assert await _revision(operated) == old
    assert "rejectedRevision" not in ready["status"]["rollout"]


async def test_the_retry_annotation_tries_the_same_change_again(operated: Api) -> None:
    old, back = await _fail(operated, LONGER)
    await operated.merge("LLMService", "llama", {"metadata": {"annotations": {"llmservice.dev/retry": "1"}}})
    pod = await _new_pod(operated, old)
    assert pod["metadata"]["labels"][REVISION] == back["status"]["rollout"]["rejectedRevision"]
    await make_ready(operated, pod)


async def test_a_change_that_fails_verification_is_taken_back_at_its_first_wrong_answer(operated: Api) -> None:
    prompts = [{"prompt": "1 + 1 =", "expectAnyOf": ["2"]}]
    await operated.create(llmservice("llama", rollout={"verification": {"prompts": prompts}}))
    await serve(operated, "llama")
    await wait_condition(operated, "llama", "Verified", "True", "PromptsPassed")
    old = await _revision(operated)
    await operated.merge("LLMService", "llama", LONGER)
    failure = {"reason": "PromptFailed", "message": "Look at prompt 1"}
    ended = {"exitCode": 65, "message": json.dumps({"schema": 1, "failure": failure}), "reason": "Error"}
    pod = await _new_pod(operated, old)
    await wait_in(operated, pod, {"reason": "PodInitializing"}, restartCount=1, lastState={"terminated": ended})
    back = await wait_condition(operated, "llama", "Verified", "False", "PromptFailed")
    await wait_condition(operated, "llama", "Stalled", "True", "RolledBack")
    assert await _revision(operated) == old
    assert back["status"]["rollout"]["rejectedRevision"] != old


async def test_a_good_change_is_taken_back_by_hand_and_comes_back_when_the_annotation_goes(operated: Api) -> None:
    await operated.create(llmservice("llama"))
    await serve(operated, "llama")
    old = await _revision(operated)
    await operated.merge("LLMService", "llama", LONGER)
    await make_ready(operated, await _new_pod(operated, old))
    await wait_condition(operated, "llama", "Ready", "True")
    new = await _revision(operated)
    await operated.merge("LLMService", "llama", {"metadata": {"annotations": {"llmservice.dev/rollback-to": old}}})
    await make_ready(operated, await _new_pod(operated, new))
    back = await wait_condition(operated, "llama", "Stalled", "True", "RolledBack")
    assert await _revision(operated) == back["status"]["rollout"]["currentRevision"] == old
    await operated.merge("LLMService", "llama", {"metadata": {"annotations": {"llmservice.dev/rollback-to": None}}})
    await make_ready(operated, await _new_pod(operated, old))
    await wait_condition(operated, "llama", "Ready", "True")
    assert await _revision(operated) == new


# C30
async def test_an_image_that_does_not_exist_is_taken_back_and_a_registry_out_of_reach_is_waited_for(
    operated: Api,
) -> None:
    await operated.create(llmservice("llama"))
    await serve(operated, "llama")
    old = await _revision(operated)
    await operated.merge("LLMService", "llama", LONGER)
    pod = await _new_pod(operated, old)
    await wait_in(operated, pod, {"reason": "ImagePullBackOff", "message": "dial tcp 10.0.0.1:443: i/o timeout"})
    await wait_condition(operated, "llama", "Stalled", "True", "ImagePullFailed")
    assert await _revision(operated) != old
    await wait_in(operated, pod, {"reason": "ErrImagePull", "message": "server:2: not found"})
    await wait_condition(operated, "llama", "Stalled", "True", "RolledBack")
    assert await _revision(operated) == old


async def test_a_rejection_outlives_the_operator(plane: ControlPlane, namespace: str) -> None:
    async with Api(plane, namespace) as api:
        async with running_operator(plane.kubeconfig, namespace):
            old, _ = await _fail(api, LONGER)
        async with running_operator(plane.kubeconfig, namespace):
            await api.merge("LLMService", "llama", {"spec": {"replicas": 3}})
            await wait_condition(api, "llama", "Degraded", "True", "RolledBack")
            assert await _revision(api) == old
