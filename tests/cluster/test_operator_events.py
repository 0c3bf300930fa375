"""The real API server takes our events as they are, and shows what `kubectl describe` needs."""

from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.events import EventRecorder
from llmservice_operator.cluster.interface import Notice
from tests.support.api import Api
from tests.support.controlplane import ControlPlane
from tests.support.running_operator import running_operator
from tests.support.stage import fail_warmup, llmservice, serve, wait_condition


async def test_a_repeated_event_becomes_a_series_and_a_long_note_is_cut_between_characters(
    plane: ControlPlane, api: Api
) -> None:
    owner = await api.create(llmservice("llama"))
    client = await Client.connect(plane.kubeconfig)
    recorder = EventRecorder(client, "operator-1")
    for _ in range(3):
        recorder.record(owner, Notice("Warning", "CrashLoop", "DegradedTrue", "x" + "ä" * 600))
    await recorder.flush(5)
    await client.close()
    (event,) = await api.all("Event", "")
    assert (event["type"], event["reason"], event["action"]) == ("Warning", "CrashLoop", "DegradedTrue")
    assert event["series"]["count"] == 3
    assert event["note"] == "x" + "ä" * 511
    assert event["reportingController"] == "llmservice.dev/operator"
    assert event["regarding"]["uid"] == owner["metadata"]["uid"]


async def test_a_turn_for_the_better_is_normal_and_one_for_the_worse_a_warning(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace):
        await api.create(llmservice("good"))
        await api.create(llmservice("bad"))
        await serve(api, "good")
        await fail_warmup(api, "bad", "RevisionNotFound", 65)
        await wait_condition(api, "bad", "ModelCached", "False", "RevisionNotFound")
    found = await api.all("Event", "")
    types = {
        (event["regarding"]["name"], event["reason"]): event["type"]
        for event in found
        if event["regarding"]["kind"] == "LLMService"
    }
    assert types["good", "AllReplicasReady"] == "Normal"
    assert types["bad", "RevisionNotFound"] == "Warning"


async def test_described_an_llmservice_shows_its_events(plane: ControlPlane, api: Api) -> None:
    async with running_operator(plane.kubeconfig, api.namespace):
        await api.create(llmservice("llama"))
        await serve(api, "llama")
    described = plane.kubectl("describe", "llmservice", "llama", f"--namespace={api.namespace}")
    shown = described.partition("Events:")[2]
    assert "AllReplicasReady" in shown
    assert "llmservice.dev/operator" in shown
