"""When a warm-up Job is made, left alone, repeated or taken away."""

from dataclasses import replace
from datetime import timedelta

import pytest

from llmservice_operator.children import Children
from llmservice_operator.desired import Desired, desired
from llmservice_operator.manifest import Manifest
from tests.support.builders import (
    NOW,
    caching,
    children_of,
    complete,
    ended_pod,
    failed,
    make_llmservice,
    make_settings,
    manifest_of,
)

FAILED_AT = "2026-01-02T03:04:05Z"


def after_failure(reason: str) -> Children:
    """Return the children when the warm-up has failed with `reason` at NOW."""
    before = caching(make_llmservice(), make_settings())
    job = failed(before.jobs[0], at=FAILED_AT)
    message = {"failure": {"reason": reason, "message": "no"}}
    return children_of(*before.claims, job, ended_pod(job, message, exit_code=65))


def has_job(wanted: Desired) -> bool:
    return any(manifest["kind"] == "Job" for manifest in wanted.manifests)


# C07: at most three times in ten minutes
@pytest.mark.parametrize(
    ("reason", "seconds"),
    [("RevisionNotFound", 300), ("AccessDenied", 300), ("HubUnreachable", 60), ("Throttled", 60)],
)
def test_a_failed_warm_up_is_repeated_after_a_while(reason: str, seconds: int) -> None:
    llmservice, settings, children = make_llmservice(), make_settings(), after_failure(reason)
    waits = desired(llmservice, children, settings, NOW + timedelta(seconds=10))
    assert (has_job(waits), waits.deletions, waits.wake_after_seconds) == (True, (), seconds - 10)

    due = desired(llmservice, children, settings, NOW + timedelta(seconds=seconds))
    assert (has_job(due), due.deletions) == (False, children.jobs)

    again = desired(llmservice, children_of(*children.claims), settings, NOW + timedelta(seconds=seconds + 1))
    assert has_job(again)


def grown(children: Children, **status: object) -> Children:
    """Return the children when the status of the claim has these fields too."""
    (claim,) = children.claims
    return replace(children, claims=({**claim, "status": {**claim["status"], **status}},))


def pending(since: str) -> Manifest:
    return {"type": "FileSystemResizePending", "status": "True", "lastTransitionTime": since}


@pytest.mark.parametrize(
    ("reason", "status", "is_due"),
    [
        pytest.param("CacheFull", {}, False, id="as it was"),
        pytest.param("CacheFull", {"capacity": {"storage": "10Gi"}}, False, id="bound only now"),
        pytest.param("CacheFull", {"capacity": {"storage": "11Gi"}}, True, id="grown"),
        pytest.param("AccessDenied", {"capacity": {"storage": "11Gi"}}, False, id="not what it waits for"),
        pytest.param(
            "CacheFull", {"conditions": [pending("2026-01-02T03:05:00Z")]}, True, id="grows with its next pod"
        ),
        pytest.param("CacheFull", {"conditions": [pending("2026-01-02T03:04:00Z")]}, False, id="did not grow with it"),
    ],
)
def test_what_did_not_fit_is_tried_again_as_soon_as_the_volume_has_grown(
    reason: str, status: Manifest, is_due: bool
) -> None:
    settings = make_settings(profile={"cacheSize": "10Gi"})
    before = caching(make_llmservice(), settings)
    job = failed(before.jobs[0], at=FAILED_AT)
    message = {"failure": {"reason": reason, "message": "no"}}
    children = grown(children_of(*before.claims, job, ended_pod(job, message, exit_code=75)), **status)

    wanted = desired(make_llmservice(), children, settings, NOW + timedelta(seconds=60))
    assert wanted.deletions == (children.jobs if is_due else ())


def test_a_suspended_llmservice_does_not_repeat_a_failed_warm_up() -> None:
    wanted = desired(
        make_llmservice(suspend=True), after_failure("RevisionNotFound"), make_settings(), NOW + timedelta(days=1)
    )
    assert (wanted.deletions, wanted.wake_after_seconds) == ((), None)


def test_a_warm_up_whose_verdict_was_lost_is_repeated() -> None:
    before = caching(make_llmservice(), make_settings())
    children = replace(before, jobs=(complete(before.jobs[0]),), pods=())
    wanted = desired(make_llmservice(), children, make_settings(), NOW)
    assert wanted.deletions == children.jobs


@pytest.mark.parametrize(
    "message",
    [
        "",
        "not json",
        '{"schema":1,"verdict":{"outcome":"Downloaded"}}',
        '{"schema":1,"verdict":{"outcome":"Downloaded","commit":"c","digest":"sha256:'
        + "a" * 64
        + '","path":"models/../../etc","quantization":"nf4","bytes":1}}',
    ],
    ids=["empty", "no json", "incomplete", "path that leaves the volume"],
)
def test_a_verdict_that_cannot_be_read_starts_no_pod(message: str) -> None:
    before = caching(make_llmservice(), make_settings())
    job = complete(before.jobs[0])
    wanted = desired(make_llmservice(), children_of(*before.claims, job, ended_pod(job, message)), make_settings(), NOW)
    assert "Deployment" not in [manifest["kind"] for manifest in wanted.manifests]


def test_a_job_for_another_model_is_taken_away() -> None:
    settings = make_settings()
    children = caching(make_llmservice(), settings)
    wanted = desired(make_llmservice(repo="google/gemma-3-1b"), children, settings, NOW)
    assert wanted.deletions == children.jobs
    assert has_job(wanted)


def test_another_token_replaces_a_job_that_waits_for_the_wrong_secret() -> None:
    def llmservice(secret: str) -> Manifest:
        return {"source": {"huggingFace": {"repo": "a/b", "tokenSecretRef": {"name": secret}}}}

    settings = make_settings()
    children = caching(make_llmservice(**llmservice("wrong")), settings)
    wanted = desired(make_llmservice(**llmservice("right")), children, settings, NOW)
    assert (has_job(wanted), wanted.deletions) == (False, children.jobs)


def test_a_new_image_neither_changes_nor_restarts_a_running_job() -> None:
    children = caching(make_llmservice(), make_settings())
    upgraded = make_settings(images={"server": "registry.example.com/llmservice/server:2.0.0"})
    wanted = desired(make_llmservice(), children, upgraded, NOW)
    assert manifest_of(wanted.manifests, "Job")["spec"] == children.jobs[0]["spec"]
    assert wanted.deletions == ()


def test_dollars_of_users_are_not_expanded_in_the_job() -> None:
    settings = make_settings(profile={"env": {"NOTE": "costs $(MODEL_NAME) $5"}})
    environment = caching(make_llmservice(), settings).jobs[0]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "NOTE", "value": "costs $$(MODEL_NAME) $$5"} in environment


@pytest.mark.parametrize(
    ("warmup", "image"),
    [({}, "example.com/gateway:1"), ({"image": "example.com/server:1"}, "example.com/server:1")],
    ids=["the profile's", "its own"],
)
def test_the_image_of_a_warm_up(warmup: Manifest, image: str) -> None:
    settings = make_settings(profile={"image": "example.com/gateway:1", "warmup": warmup})
    job = manifest_of(desired(make_llmservice(), caching_volume(), settings, NOW).manifests, "Job")
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == image


def caching_volume() -> Children:
    """Return the children when the volume is there and its Job is not."""
    return children_of(*caching(make_llmservice(), make_settings()).claims)
