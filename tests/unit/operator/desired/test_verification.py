"""Golden prompts reach the pods of a revision as files, and with them which revisions have answered them before."""

import json
from dataclasses import replace
from typing import Any

import pytest

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import desired
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from llmservice_operator.schema import LLMService
from tests.support.builders import NOW, crashing_pod, make_llmservice, make_pod, manifest_of, serving
from tests.support.rollouts import SETTINGS, loading, rolled_back, rolling, settled

PROMPTS = [{"prompt": "Capital of France?", "expectAnyOf": ["Paris"]}, {"prompt": "1 + 1 =", "maxTokens": 4}]
VERIFIED = {"verification": {"prompts": PROMPTS}}
OTHERS = {"verification": {"prompts": PROMPTS[:1]}}


def verified(generation: int = 1, rollout: Manifest = VERIFIED, **spec: Any) -> LLMService:
    return make_llmservice(generation=generation, rollout=rollout, **spec)


def template(children: Children) -> Manifest:
    assert children.deployment is not None
    found: Manifest = children.deployment["spec"]["template"]
    return found


def revision(children: Children) -> str:
    return str(template(children)["metadata"]["labels"][names.REVISION_LABEL])


def mounted(pod_template: Manifest) -> list[Manifest]:
    (volume,) = (item for item in pod_template["spec"]["volumes"] if item["name"] == "verification")
    return [source["configMap"] for source in volume["projected"]["sources"]]


def written(llmservice: LLMService, children: Children) -> dict[str, Manifest]:
    manifests = desired(llmservice, children, SETTINGS, NOW).manifests
    return {item["metadata"]["name"]: item for item in manifests if item["kind"] == "ConfigMap"}


def condition(llmservice: LLMService, children: Children, kind: str = "Verified") -> tuple[str, str, str]:
    found = observe(llmservice, children, SETTINGS, NOW)["conditions"]
    return next((item["status"], item["reason"], item["message"]) for item in found if item["type"] == kind)


def failing(reason: str = "PromptFailed") -> Any:
    message = json.dumps({"schema": 1, "failure": {"reason": reason, "message": "Look at prompt 1"}})
    return lambda owner: crashing_pod(owner, number=1, restarts=1, exitCode=65, message=message)


def test_the_prompts_are_a_file_and_no_variable() -> None:
    service = verified()
    children = serving(service, SETTINGS)
    prompts, _ = mounted(template(children))
    document = json.loads(written(service, children)[prompts["name"]]["data"]["prompts.json"])
    assert document == {
        "timeoutSeconds": 120,
        "prompts": [
            {"prompt": "Capital of France?", "maxTokens": 64, "expectAnyOf": ["Paris"]},
            {"prompt": "1 + 1 =", "maxTokens": 4, "expectAnyOf": []},
        ],
    }
    container = template(children)["spec"]["containers"][0]
    (environment,) = container["envFrom"]
    data = written(service, children)[environment["configMapRef"]["name"]]["data"]
    assert "Capital of France" not in json.dumps([data, container])
    assert data["LLMSERVICE_VERIFICATION_DIR"] in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_a_service_without_prompts_has_pods_as_before() -> None:
    children = serving(make_llmservice(), SETTINGS)
    assert "env" not in template(children)["spec"]["containers"][0]
    assert "prompts" not in children.revisions[0]["data"]
    assert list(written(make_llmservice(), children)) == [
        template(children)["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"]
    ]


def test_a_pod_finds_its_revision_among_the_proven_once_that_is_good() -> None:
    first = verified()
    children = serving(first, SETTINGS)
    _, proven = mounted(template(children))
    assert proven["optional"] is True
    assert written(first, children)[proven["name"]]["data"] == {revision(children): ""}
    second = verified(2, engine={"maxModelLen": 1024})
    on_its_way = rolling(second, children, loading)
    assert written(second, on_its_way)[proven["name"]]["data"] == {revision(children): ""}
    done = settled(second, children)
    assert written(second, done)[proven["name"]]["data"] == dict.fromkeys(
        sorted({revision(children), revision(done)}), ""
    )


def test_other_prompts_are_a_revision_of_their_own_and_the_old_ones_stay_with_theirs() -> None:
    before = serving(verified(), SETTINGS)
    changed = verified(2, OTHERS)
    during = rolling(changed, before, loading)
    assert revision(during) != revision(before)
    deleted = {item["metadata"]["name"] for item in desired(changed, during, SETTINGS, NOW).deletions}
    assert not deleted & {item["name"] for item in (*mounted(template(before)), *mounted(template(during)))}


@pytest.mark.parametrize("reason", ["PromptFailed", "PromptTimedOut"])
def test_a_change_that_fails_verification_is_taken_back_with_the_prompts_of_before(reason: str) -> None:
    before = serving(verified(), SETTINGS)
    changed = verified(2, OTHERS, engine={"maxModelLen": 1024})
    during = rolling(changed, before, failing(reason))
    manifests = desired(changed, during, SETTINGS, NOW).manifests
    assert manifest_of(manifests, "Deployment")["spec"]["template"] == template(before)
    assert mounted(template(before))[0]["name"] in written(changed, during)
    back = rolled_back(changed, before, during)
    assert condition(changed, back) == ("False", reason, "Look at prompt 1")
    assert condition(changed, back, "Degraded")[1] == "RolledBack"
    assert condition(changed, back, "Serving")[:2] == ("True", "EndpointsReady")


def test_a_first_revision_that_fails_is_stalled_and_stays() -> None:
    service = verified()
    children = serving(service, SETTINGS)
    assert children.deployment is not None
    pods = (*(pod for pod in children.pods if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "warmup"),)
    fresh = replace(children, revisions=(), pods=(*pods, failing()(children.deployment)))
    assert condition(service, fresh) == ("False", "PromptFailed", "Look at prompt 1")
    assert condition(service, fresh, "Stalled")[:2] == ("True", "PromptFailed")
    assert condition(service, fresh, "Ready")[:2] == ("False", "PromptFailed")


def test_verified_is_pending_until_a_replica_of_the_revision_asked_for_is_ready() -> None:
    before = serving(verified(), SETTINGS)
    changed = verified(2, engine={"maxModelLen": 1024})
    assert condition(verified(), before)[:2] == ("True", "PromptsPassed")
    assert condition(changed, rolling(changed, before, loading))[:2] == ("False", "Pending")
    assert condition(changed, settled(changed, before))[:2] == ("True", "PromptsPassed")
    assert condition(make_llmservice(), serving(make_llmservice(), SETTINGS))[:2] == ("True", "NotConfigured")


@pytest.mark.parametrize(
    ("said", "progress", "reason"),
    [
        pytest.param(
            {"phase": "Verifying", "progress": {"done": 1, "total": 2, "unit": "prompts"}},
            "verify 1/2",
            "Verifying",
            id="one prompt done",
        ),
        pytest.param({"phase": "Loading", "progress": None}, "rollout 1/1", "RollingOut", id="still loading"),
        pytest.param({"phase": ["Verifying"]}, "rollout 1/1", "RollingOut", id="nonsense"),
    ],
)
def test_progress_tells_how_many_prompts_a_replica_has_answered(said: Manifest, progress: str, reason: str) -> None:
    before = serving(verified(), SETTINGS)
    changed = verified(2, engine={"maxModelLen": 1024})
    during = rolling(changed, before, lambda owner: make_pod(owner, 1, phase="Running"))
    name = during.pods[-1]["metadata"]["name"]
    status = observe(changed, replace(during, reports={name: said}), SETTINGS, NOW)
    assert status["progress"] == progress
    assert condition(changed, replace(during, reports={name: said}), "Reconciling")[1] == reason
