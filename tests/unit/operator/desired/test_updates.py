"""What another operator or profile would make of a service waits; what its spec asks for does not."""

from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import desired
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from llmservice_operator.schema import LLMService
from llmservice_operator.settings import Settings
from tests.support.builders import NOW, as_live, make_llmservice, make_settings, manifest_of, rolled_out, serving
from tests.support.rollouts import crashing, kept, rolling, settled

BEFORE = make_settings()
AFTER = make_settings(profile={"requests": {"cpu": "3", "memory": "8Gi"}, "maxTokens": 512})
FIRST = make_llmservice()
FIELDS = "spec.containers[server].resources.requests.cpu, environment.MAX_TOKENS"


def template(llmservice: LLMService, children: Children, settings: Settings = AFTER) -> Manifest:
    found: Manifest = manifest_of(desired(llmservice, children, settings, NOW).manifests, "Deployment")
    rendered: Manifest = found["spec"]["template"]
    return rendered


def live(children: Children) -> Manifest:
    assert children.deployment is not None
    found: Manifest = children.deployment["spec"]["template"]
    return found


def update(llmservice: LLMService, children: Children, settings: Settings = AFTER) -> tuple[str, str, str]:
    conditions = observe(llmservice, children, settings, NOW)["conditions"]
    (found,) = [item for item in conditions if item["type"] == "UpdatePending"]
    return found["status"], found["reason"], found["message"]


def written(llmservice: LLMService, children: Children, settings: Settings) -> Children:
    """Return the children once the ControllerRevision is as it is wanted."""
    return kept(children, desired(llmservice, children, settings, NOW))


def asking(llmservice: LLMService, **annotations: str) -> LLMService:
    found = {f"llmservice.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return llmservice.model_copy(update={"metadata": llmservice.metadata.model_copy(update={"annotations": found})})


def test_a_changed_profile_restarts_no_pod_and_the_status_lists_the_fields() -> None:
    children = serving(FIRST, BEFORE)
    assert template(FIRST, children) == live(children)
    status, reason, message = update(FIRST, children)
    assert (status, reason) == ("True", "OperatorUpgraded")
    assert FIELDS in message
    assert observe(FIRST, children, AFTER, NOW)["operator"]["pendingSummary"] == FIELDS
    ready = next(item for item in observe(FIRST, children, AFTER, NOW)["conditions"] if item["type"] == "Ready")
    assert ready["status"] == "True"


def test_nothing_is_pending_with_the_operator_that_rolled_out() -> None:
    assert update(FIRST, serving(FIRST, BEFORE), BEFORE)[:2] == ("False", "UpToDate")


def test_a_changed_default_of_the_operator_itself_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    children = serving(FIRST, BEFORE)
    monkeypatch.setattr(import_module("llmservice_operator.desired.deployment"), "TERMINATION_MARGIN_SECONDS", 60)
    assert template(FIRST, children, BEFORE) == live(children)
    assert "spec.terminationGracePeriodSeconds" in update(FIRST, children, BEFORE)[2]


def test_the_configuration_that_waits_is_that_of_the_pinned_revision() -> None:
    children = serving(FIRST, BEFORE)
    environment = manifest_of(desired(FIRST, children, AFTER, NOW).manifests, "ConfigMap")
    assert environment["data"]["MAX_TOKENS"] == "256"


@pytest.mark.parametrize("change", [{"replicas": 3}, {"cache": {"size": "70Gi"}}, {"service": {"port": 81}}])
def test_a_change_that_is_not_about_the_pods_brings_no_update_with_it(change: dict[str, Any]) -> None:
    children = serving(FIRST, BEFORE)
    second = make_llmservice(generation=2, **change)
    assert template(second, children) == live(children)
    assert update(second, children)[0] == "True"


@pytest.mark.parametrize(
    "second",
    [
        make_llmservice(generation=2, engine={"maxModelLen": 1024}),
        make_llmservice(annotations={names.RESTART_ANNOTATION: "1"}),
    ],
    ids=["spec", "restart"],
)
def test_a_change_about_the_pods_brings_the_update_with_it(second: LLMService) -> None:
    children = serving(FIRST, BEFORE)
    found = template(second, children)
    assert found["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "3"
    assert update(second, children)[0] == "False"


def test_the_annotation_applies_an_update_once() -> None:
    children = serving(FIRST, BEFORE)
    asked = asking(FIRST, apply_update="monday")
    applied = template(asked, children)
    assert applied["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "3"
    deployed = manifest_of(desired(asked, children, AFTER, NOW).manifests, "Deployment")
    done = written(asked, replace(children, deployment=rolled_out(as_live(deployed))), AFTER)
    assert update(asked, done, AFTER)[0] == "False"
    again = make_settings(profile={"requests": {"cpu": "4", "memory": "8Gi"}})
    assert template(asked, done, again) == applied
    assert template(asking(FIRST, apply_update="tuesday"), done, again) != applied


def test_an_annotation_from_before_an_update_does_not_ask_for_it() -> None:
    asked = asking(FIRST, apply_update="monday")
    children = written(asked, serving(FIRST, BEFORE), BEFORE)
    assert template(asked, children) == live(children)


def test_in_mode_auto_an_update_is_applied_at_once() -> None:
    auto = make_llmservice(upgradePolicy={"mode": "Auto"})
    children = serving(auto, BEFORE)
    assert template(auto, children) != live(children)
    assert update(auto, children)[0] == "False"


def test_a_new_default_of_the_schema_is_no_change_of_the_spec() -> None:
    spelled_out = make_llmservice(generation=2, rollout={"drainTimeoutSeconds": 120}, engine={"quantization": {}})
    children = serving(FIRST, BEFORE)
    (revision,) = children.revisions
    source = {"huggingFace": {"repo": "google/gemma-3-270m"}}
    assert revision["data"]["request"]["spec"] == {"model": {"source": source}}
    assert template(spelled_out, children) == live(children)


def test_a_rejected_revision_stays_rejected_under_another_operator() -> None:
    second = make_llmservice(generation=2, engine={"maxModelLen": 1024})
    first = serving(FIRST, BEFORE)
    failing = rolling(second, first, crashing)
    rejected = written(second, failing, BEFORE)
    assert template(second, rejected) == live(first)
    conditions = {item["type"]: item for item in observe(second, rejected, AFTER, NOW)["conditions"]}
    assert conditions["Degraded"]["reason"] == "RolledBack"
    assert conditions["UpdatePending"]["status"] == "True"


def test_going_back_to_an_earlier_spec_takes_what_this_operator_makes_of_it() -> None:
    second = make_llmservice(generation=2, engine={"maxModelLen": 1024})
    children = settled(second, serving(FIRST, BEFORE))
    assert template(FIRST, children)["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "3"


def test_without_a_revision_that_is_kept_the_pods_are_rendered_anew() -> None:
    children = replace(serving(FIRST, BEFORE), revisions=())
    assert template(FIRST, children) != live(children)


def windowed(schedule: str) -> LLMService:
    return make_llmservice(upgradePolicy={"mode": "Window", "window": {"schedule": schedule, "durationSeconds": 3600}})


def test_an_update_waits_for_its_window_and_the_operator_wakes_for_it() -> None:
    service = windowed("0 4 * * *")
    children = serving(service, BEFORE)
    assert template(service, children) == live(children)
    status, reason, message = update(service, children)
    assert (status, reason) == ("True", "WaitingForWindow")
    assert FIELDS in message
    assert desired(service, children, AFTER, NOW).wake_after_seconds == 55 * 60 + 55
    assert desired(service, children, BEFORE, NOW).wake_after_seconds is None
    assert template(asking(service, apply_update="now"), children) != live(children)


def test_an_update_is_applied_while_its_window_is_open() -> None:
    service = windowed("0 3 * * *")
    children = serving(service, BEFORE)
    assert template(service, children) != live(children)
    assert update(service, children)[0] == "False"
