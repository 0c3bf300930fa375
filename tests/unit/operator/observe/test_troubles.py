"""Trouble of pods, volumes and Jobs: each with its reason, its condition and what to do first."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llmservice_operator.children import Children, Refusal
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from llmservice_operator.schema import LLMService
from tests.support.builders import (
    COMMIT,
    DIGEST,
    NOW,
    STARTED,
    cached,
    caching,
    crashing_pod,
    ended_pod,
    failed,
    make_event,
    make_llmservice,
    make_pod,
    make_settings,
    ready_pod,
    serving,
    unschedulable_pod,
    waiting_pod,
)
from tests.support.specs import HTTP_SOURCE, IMAGE_SOURCE

SETTINGS = make_settings()
IMAGE = "registry.example.com/llmservice/server:1.0.0"
NO_NODE = "0/3 nodes are available: "


def conditions(status: Manifest) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}


def message(status: Manifest, kind: str) -> str:
    return next(str(item["message"]) for item in status["conditions"] if item["type"] == kind)


def starting(*pods: Manifest, **others: Any) -> Children:
    """Return the children of a first start with these pods."""
    children = serving(make_llmservice(), SETTINGS)
    assert children.deployment is not None
    status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}
    return replace(children, deployment={**children.deployment, "status": status}, pods=pods, **others)


def deployment() -> Manifest:
    found = serving(make_llmservice(), SETTINGS).deployment
    assert found is not None
    return found


def said(reason: str) -> str:
    return json.dumps({"schema": 1, "failure": {"reason": reason, "message": "Do this"}})


SERVER_TROUBLES: dict[str, tuple[Callable[[], Manifest], tuple[str, str, str], str]] = {
    "image": (
        lambda: waiting_pod(deployment(), "ErrImagePull", "not found: no such tag"),
        ("Degraded", "True", "ImagePullFailed"),
        f"Check that image {IMAGE} exists and may be pulled: not found: no such tag",
    ),
    "image, backing off": (
        lambda: waiting_pod(
            deployment(), "ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: not found: no such tag'
        ),
        ("Degraded", "True", "ImagePullFailed"),
        f"Check that image {IMAGE} exists and may be pulled: not found: no such tag",
    ),
    "crash loop": (
        lambda: crashing_pod(deployment(), exitCode=3),
        ("Degraded", "True", "CrashLoop"),
        "Look at the log of container server: it ended with exit code 3",
    ),
    "out of memory": (
        lambda: crashing_pod(deployment(), exitCode=137, reason="OOMKilled"),
        ("Degraded", "True", "OutOfMemory"),
        "Raise spec.resources.limits.memory: container server needed more than it may use",
    ),
    "a process of it out of memory": (
        lambda: crashing_pod(deployment(), exitCode=70, reason="OOMKilled", message=said("EngineFailed")),
        ("Degraded", "True", "OutOfMemory"),
        "Raise spec.resources.limits.memory: container server needed more than it may use",
    ),
    "out of memory, and a cause of its own": (
        lambda: crashing_pod(deployment(), exitCode=65, reason="OOMKilled", message=said("ModelInvalid")),
        ("ModelCached", "False", "ModelInvalid"),
        "Do this",
    ),
    "keys without a key": (
        lambda: crashing_pod(deployment(), exitCode=78, message=said("AuthSecretInvalid")),
        ("Degraded", "True", "AuthSecretInvalid"),
        "Do this",
    ),
    "a model that is none": (
        lambda: crashing_pod(deployment(), exitCode=65, message=said("ModelInvalid")),
        ("ModelCached", "False", "ModelInvalid"),
        "Do this",
    ),
    "a context that is too long": (
        lambda: crashing_pod(deployment(), exitCode=78, message=said("ContextTooLong")),
        ("ConfigurationValid", "False", "ContextTooLong"),
        "Do this",
    ),
    "a reason of another version": (
        lambda: crashing_pod(deployment(), exitCode=70, message=said("NeverHeardOf")),
        ("Degraded", "True", "CrashLoop"),
        "Do this",
    ),
    "GPU": (
        lambda: unschedulable_pod(
            deployment(),
            NO_NODE
            + "1 node(s) had untolerated taint(s), 2 Insufficient nvidia.com/mig-1g.10gb. preemption: 0/3 nodes",
        ),
        ("Scheduled", "False", "InsufficientGPU"),
        "Free a GPU, add a node that has one, or change spec.resources.gpu: 0/3 nodes are available: 1 node(s) had "
        "untolerated taint(s), 2 Insufficient nvidia.com/mig-1g.10gb.",
    ),
    "memory": (
        lambda: unschedulable_pod(deployment(), NO_NODE + "3 Insufficient memory."),
        ("Scheduled", "False", "InsufficientResources"),
        "Ask for less in spec.resources, or add a node: 0/3 nodes are available: 3 Insufficient memory.",
    ),
    "node selector": (
        lambda: unschedulable_pod(deployment(), NO_NODE + "3 node(s) didn't match Pod's node affinity/selector."),
        ("Scheduled", "False", "NoMatchingNode"),
        "Change spec.scheduling.nodeSelector, or label a node: 0/3 nodes are available: 3 node(s) didn't match Pod's "
        "node affinity/selector.",
    ),
    "taint": (
        lambda: unschedulable_pod(deployment(), NO_NODE + "3 node(s) had untolerated taint {gpu: yes}."),
        ("Scheduled", "False", "TaintNotTolerated"),
        "Add to spec.scheduling.tolerations, or remove the taint: 0/3 nodes are available: 3 node(s) had untolerated "
        "taint {gpu: yes}.",
    ),
    "other words of the scheduler": (
        lambda: unschedulable_pod(deployment(), NO_NODE + "3 node(s) were busy."),
        ("Scheduled", "False", "Unschedulable"),
        "Look at the nodes: 0/3 nodes are available: 3 node(s) were busy.",
    ),
    "claim": (
        lambda: unschedulable_pod(deployment(), 'persistentvolumeclaim "models" not found'),
        ("ModelCached", "False", "VolumeUnusable"),
        'Create the claim, or name another in the spec: persistentvolumeclaim "models" not found',
    ),
    "secret": (
        lambda: waiting_pod(deployment(), "CreateContainerConfigError", 'secret "hf" not found'),
        ("ConfigurationValid", "False", "SecretNotFound"),
        "Create Secret hf in this namespace: the spec names it",
    ),
    "secret's key": (
        lambda: waiting_pod(deployment(), "CreateContainerConfigError", "couldn't find key token in Secret team-a/hf"),
        ("ConfigurationValid", "False", "SecretKeyInvalid"),
        "Add the key token to Secret hf, or name another key in the spec",
    ),
}


# C22, C30, C34, C57 and others that a pod's own status tells
@pytest.mark.parametrize("name", SERVER_TROUBLES)
def test_trouble_of_a_serving_pod(name: str) -> None:
    make, (kind, value, reason), words = SERVER_TROUBLES[name]
    status = observe(make_llmservice(), starting(make()), SETTINGS, NOW)
    found = conditions(status)
    assert found[kind] == (value, reason)
    assert message(status, kind) == words
    assert found["Ready"] == ("False", reason)
    assert found["Stalled"] == ("True", reason)
    assert found["Serving"] == ("False", "NoReadyEndpoints")
    assert status["phase"] == "Failed"


# C37
@pytest.mark.parametrize(
    ("event", "kind", "reason"),
    [
        (
            'MountVolume.SetUp failed for volume "api-keys" : secret "keys" not found',
            "ConfigurationValid",
            "SecretNotFound",
        ),
        ('Unable to attach: Multi-Attach error for volume "pvc-1"', "ModelCached", "VolumeUnusable"),
    ],
)
def test_trouble_with_a_volume_is_read_from_the_pods_events(event: str, kind: str, reason: str) -> None:
    pod = waiting_pod(deployment(), "ContainerCreating")
    children = starting(pod, events=(make_event(pod, "FailedMount", event),))
    assert conditions(observe(make_llmservice(), children, SETTINGS, NOW))[kind] == ("False", reason)


@pytest.mark.parametrize(
    ("words", "kind", "reason"),
    [
        ('pods "gemma-5d-x" is forbidden: exceeded quota: gpus, requested: 1', "Scheduled", "QuotaExceeded"),
        ('pods "gemma-5d-x" is forbidden: violates PodSecurity "restricted:latest"', "Scheduled", "PodSecurityDenied"),
        (
            'pods "gemma-5d-x" is forbidden: no PriorityClass with name high was found',
            "ConfigurationValid",
            "PriorityClassNotFound",
        ),
        (
            'pods "gemma-5d-x" is forbidden: pod rejected: RuntimeClass "kata" not found',
            "ConfigurationValid",
            "RuntimeClassNotFound",
        ),
    ],
)
def test_a_refused_pod_is_told_in_the_servers_words_without_its_drawn_name(words: str, kind: str, reason: str) -> None:
    children = starting()
    assert children.deployment is not None
    children.deployment["status"]["conditions"] = [{"type": "ReplicaFailure", "status": "True", "message": words}]
    status = observe(make_llmservice(), children, SETTINGS, NOW)
    assert conditions(status)[kind] == ("False", reason)
    assert "gemma-5d-x" not in message(status, kind)

    before = caching(make_llmservice(), SETTINGS)
    event = make_event(before.jobs[0], "FailedCreate", f"Error creating: {words}")
    warming = observe(make_llmservice(), replace(before, pods=(), events=(event,)), SETTINGS, NOW)
    assert conditions(warming)[kind] == ("False", reason)
    assert message(warming, kind) == message(status, kind)


def test_a_container_that_runs_again_after_a_crash_stays_in_trouble_until_it_is_ready() -> None:
    pod = crashing_pod(deployment(), exitCode=3)
    pod["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": STARTED}}
    backing_off = observe(make_llmservice(), starting(crashing_pod(deployment(), exitCode=3)), SETTINGS, NOW)
    assert observe(make_llmservice(), starting(pod), SETTINGS, NOW) == backing_off


def test_a_first_crash_is_degraded_and_not_yet_stalled() -> None:
    pod = crashing_pod(deployment(), exitCode=3, restarts=1)
    pod["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": STARTED}}
    found = conditions(observe(make_llmservice(), starting(pod), SETTINGS, NOW))
    assert found["Degraded"] == ("True", "CrashLoop")
    assert found["Reconciling"] == ("True", "Starting")


def test_a_ready_pod_that_crashed_once_is_no_trouble() -> None:
    children = serving(make_llmservice(), SETTINGS)
    assert children.deployment is not None
    pod = ready_pod(children.deployment)
    pod["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    found = conditions(observe(make_llmservice(), replace(children, pods=(pod,)), SETTINGS, NOW))
    assert found["Degraded"] == ("False", "AsExpected")
    assert found["Ready"] == ("True", "AllReplicasReady")


@pytest.mark.parametrize(
    ("transition", "reason"),
    [("2026-01-02T03:00:59Z", "AsExpected"), ("2026-01-02T03:02:00Z", "ReplicasUnavailable")],
    ids=["loads for the first time", "was ready before"],
)
def test_a_replica_that_lost_its_readiness_is_unavailable(transition: str, reason: str) -> None:
    pod = ready_pod(deployment())
    pod["status"]["conditions"][1] |= {"status": "False", "lastTransitionTime": transition}
    status = observe(make_llmservice(), starting(pod), SETTINGS, NOW)
    assert conditions(status)["Degraded"][1] == reason
    assert "Stalled" not in conditions(status)


def warmup_failed(reason: str, *, exit_code: int = 65) -> Children:
    before = caching(make_llmservice(), SETTINGS)
    job = failed(before.jobs[0])
    return replace(before, jobs=(job,), pods=(ended_pod(job, said(reason), exit_code=exit_code),))


@pytest.mark.parametrize(
    ("reason", "kind", "is_stalled"),
    [
        ("ModelNotFound", "ModelCached", True),
        ("RevisionNotFound", "ModelCached", True),
        ("AccessDenied", "ModelCached", True),
        ("UnsafeFiles", "ModelCached", True),
        ("ModelInvalid", "ModelCached", True),
        ("ModelUnsupported", "ModelCached", True),
        ("DigestMismatch", "ModelCached", True),
        ("CacheFull", "ModelCached", True),
        ("HubUnreachable", "ModelCached", False),
        ("Throttled", "ModelCached", False),
        ("QuantizationConflict", "ConfigurationValid", True),
        ("SecretKeyInvalid", "ConfigurationValid", True),
        ("EndpointNotAllowed", "ConfigurationValid", True),
    ],
)
def test_a_failed_warm_up_is_told_in_its_own_words(reason: str, kind: str, is_stalled: bool) -> None:
    status = observe(make_llmservice(), warmup_failed(reason), SETTINGS, NOW)
    found = conditions(status)
    assert found[kind] == ("False", reason)
    assert message(status, kind) == "Do this"
    assert found["ModelCached"][0] == "False"
    assert found["Ready"] == ("False", reason)
    assert ("Stalled" in found) is is_stalled


def test_a_failed_warm_up_of_a_new_model_leaves_the_old_one_serving() -> None:
    before = serving(make_llmservice(), SETTINGS)
    edited = make_llmservice(generation=2, repo="google/none")
    failing = caching(edited, SETTINGS)
    job = failed(failing.jobs[0])
    children = replace(before, jobs=(job,), pods=(*before.pods, ended_pod(job, said("ModelNotFound"), exit_code=65)))
    status = observe(edited, children, SETTINGS, NOW)
    found = conditions(status)
    assert found["Serving"] == ("True", "EndpointsReady")
    assert found["ModelCached"] == ("False", "ModelNotFound")
    assert found["Ready"] == ("False", "ModelNotFound")
    assert status["phase"] == "Degraded"
    assert status["model"]["ref"] == "google/gemma-3-270m"


def test_a_warm_up_that_took_too_long_names_the_field() -> None:
    before = caching(make_llmservice(), SETTINGS)
    children = replace(before, jobs=(failed(before.jobs[0], reason="DeadlineExceeded"),), pods=())
    status = observe(make_llmservice(), children, SETTINGS, NOW)
    assert conditions(status)["ModelCached"] == ("False", "WarmupTimedOut")
    assert message(status, "ModelCached").startswith("Raise spec.cache.warmup.timeoutSeconds: ")


# C09
def test_a_warm_up_waits_for_a_missing_token() -> None:
    before = caching(make_llmservice(), SETTINGS)
    pod = waiting_pod(before.jobs[0], "CreateContainerConfigError", 'secret "hf" not found')
    found = conditions(observe(make_llmservice(), replace(before, pods=(pod,)), SETTINGS, NOW))
    assert found["ConfigurationValid"] == ("False", "SecretNotFound")
    assert found["Ready"] == ("False", "SecretNotFound")
    assert found["ModelCached"] == ("False", "Downloading")


def test_a_warm_up_between_two_attempts_says_why_the_last_one_failed() -> None:
    before = caching(make_llmservice(), SETTINGS)
    pod = ended_pod(before.jobs[0], said("DigestMismatch"), exit_code=75)
    found = conditions(observe(make_llmservice(), replace(before, pods=(pod,)), SETTINGS, NOW))
    assert found["ModelCached"] == ("False", "DigestMismatch")
    assert found["Reconciling"] == ("True", "Caching")


@pytest.mark.parametrize(
    ("report", "progress", "reason"),
    [
        pytest.param(
            {"phase": "Downloading", "progress": {"done": 639, "total": 1000, "unit": "bytes"}},
            "cache 63%",
            "Downloading",
            id="downloading",
        ),
        *(
            pytest.param(
                {
                    "phase": "Downloading",
                    "progress": {"done": 639, "total": 1000, "unit": "bytes", "eta_seconds": left},
                },
                f"cache 63%{told}",
                "Downloading",
                id=f"{left} seconds left",
            )
            for left, told in ((41.2, ", 42s left"), (61, ", 2m left"), (4000, ", 1h7m left"), (0, ""), (None, ""))
        ),
        pytest.param({"phase": "Quantizing", "progress": None}, None, "Quantizing", id="quantizing"),
        pytest.param({"phase": "Downloading", "progress": {"done": "x"}}, None, "Downloading", id="nonsense"),
        pytest.param(
            {"phase": "Downloading", "progress": {"done": 0, "total": 0, "unit": "bytes"}},
            None,
            "Downloading",
            id="empty",
        ),
    ],
)
def test_progress_is_a_number_in_its_own_field(report: Manifest, progress: str | None, reason: str) -> None:
    before = caching(make_llmservice(), SETTINGS)
    name = before.pods[0]["metadata"]["name"]
    status = observe(make_llmservice(), replace(before, reports={name: report}), SETTINGS, NOW)
    assert status.get("progress") == progress
    assert conditions(status)["ModelCached"] == ("False", reason)
    assert "63" not in message(status, "ModelCached")


def test_the_cache_tells_rate_and_time_left_of_a_download() -> None:
    before = caching(make_llmservice(), SETTINGS)
    progress = {"done": 400, "total": 1000, "unit": "bytes", "eta_seconds": 29.5}
    reports = {before.pods[0]["metadata"]["name"]: {"phase": "Downloading", "progress": progress}}
    cache = observe(make_llmservice(), replace(before, reports=reports), SETTINGS, NOW)["cache"]
    assert (cache["bytesDone"], cache["bytesTotal"]) == (400, 1000)
    assert (cache["bytesPerSecond"], cache["secondsLeft"]) == (20, 30)


def test_a_deleted_volume_in_use_is_told_while_the_pods_serve_on() -> None:
    children = serving(make_llmservice(), SETTINGS)
    children.claims[0]["metadata"]["deletionTimestamp"] = "2026-01-02T03:00:00Z"
    found = conditions(observe(make_llmservice(), children, SETTINGS, NOW))
    assert found["ModelCached"] == ("False", "VolumeUnusable")
    assert found["Serving"] == ("True", "EndpointsReady")
    assert found["Ready"] == ("False", "VolumeUnusable")


@pytest.mark.parametrize(
    ("words", "kind", "reason"),
    [
        ('storageclass.storage.k8s.io "fast" not found', "ConfigurationValid", "StorageClassNotFound"),
        ("no space left in the pool", "ModelCached", "VolumeUnusable"),
    ],
)
def test_a_volume_that_cannot_be_made_says_why(words: str, kind: str, reason: str) -> None:
    before = caching(make_llmservice(), SETTINGS)
    claim = {**before.claims[0], "status": {"phase": "Pending"}}
    children = replace(before, claims=(claim,), pods=(), events=(make_event(claim, "ProvisioningFailed", words),))
    assert conditions(observe(make_llmservice(), children, SETTINGS, NOW))[kind] == ("False", reason)


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        ("ChildNameConflict", "ConfigurationValid"),
        ("RejectedByServer", "ConfigurationValid"),
        ("OperatorForbidden", "ConfigurationValid"),
        ("QuotaExceeded", "Scheduled"),
    ],
)
def test_a_refused_write_is_told(refused: str, kind: str) -> None:
    refusal = Refusal(kind="Deployment", name="gemma", reason=refused, message="the words")
    children = replace(serving(make_llmservice(), SETTINGS), refusals=(refusal,))
    status = observe(make_llmservice(), children, SETTINGS, NOW)
    assert conditions(status)[kind] == ("False", refused)
    assert conditions(status)["Stalled"] == ("True", refused)
    assert "the words" in message(status, kind)


def no_profile() -> LLMService:
    return make_llmservice(profile="unknown")


def test_a_spec_that_cannot_be_carried_out_leaves_serving_as_it_is() -> None:
    status = observe(no_profile(), serving(make_llmservice(), SETTINGS), SETTINGS, NOW)
    found = conditions(status)
    assert found["ConfigurationValid"] == ("False", "ProfileNotFound")
    assert found["Ready"] == ("False", "ProfileNotFound")
    assert found["Stalled"] == ("True", "ProfileNotFound")
    assert found["Serving"] == ("True", "EndpointsReady")


def test_foreign_words_lose_their_control_characters() -> None:
    pod = crashing_pod(
        deployment(),
        exitCode=78,
        message='{"schema":1,"failure":{"reason":"EngineFailed","message":"a\\u001b[31m\\nb"}}',
    )
    assert message(observe(make_llmservice(), starting(pod), SETTINGS, NOW), "Degraded") == "a [31m b"


def test_a_pod_that_only_loads_is_no_trouble() -> None:
    found = conditions(observe(make_llmservice(), starting(make_pod(deployment(), phase="Running")), SETTINGS, NOW))
    assert found["Degraded"] == ("False", "AsExpected")
    assert found["Reconciling"] == ("True", "Starting")


def test_source_pvc_needs_no_cache() -> None:
    llmservice = make_llmservice(source={"pvc": {"claimName": "models", "path": "gemma"}})
    status = observe(llmservice, serving(llmservice, SETTINGS), SETTINGS, NOW)
    assert conditions(status)["ModelCached"] == ("True", "NotRequired")
    assert conditions(status)["Ready"] == ("True", "AllReplicasReady")
    assert "cache" not in status
    assert status["model"] == {"ref": "models/gemma", "quantization": "auto"}


# C38
def test_a_smaller_cache_than_there_is_is_ignored_and_said() -> None:
    children = serving(make_llmservice(cache={"size": "5Gi"}), SETTINGS)
    children.claims[0]["spec"]["resources"]["requests"]["storage"] = "50Gi"
    status = observe(make_llmservice(cache={"size": "1Gi"}), children, SETTINGS, NOW)
    assert conditions(status)["Ready"] == ("True", "AllReplicasReady")
    assert message(status, "ModelCached").endswith("; spec.cache.size 1Gi is ignored: it has 50Gi")


def test_a_smaller_cache_is_said_to_be_ignored_while_a_model_is_downloaded_too() -> None:
    children = caching(make_llmservice(cache={"size": "50Gi"}), SETTINGS)
    status = observe(make_llmservice(cache={"size": "1Gi"}), children, SETTINGS, NOW)
    assert message(status, "ModelCached").endswith("; spec.cache.size 1Gi is ignored: it has 50Gi")


def growing(*conditions: tuple[str, str], resize: str = "") -> Children:
    """Return the children of a service whose volume of 10Gi is to have 20Gi, with these conditions of the PVC."""
    children = serving(make_llmservice(cache={"size": "20Gi"}), SETTINGS)
    (claim,) = children.claims
    said = [{"type": kind, "status": "True", "message": words} for kind, words in conditions]
    status = {**claim["status"], "capacity": {"storage": "10Gi"}, "conditions": said}
    if resize:
        status["allocatedResourceStatuses"] = {"storage": resize}
    return replace(children, claims=({**claim, "status": status},))


@pytest.mark.parametrize(
    ("children", "end"),
    [
        pytest.param(growing(), "; it is to grow from 10Gi to 20Gi", id="asked for"),
        pytest.param(
            growing(("Resizing", ""), resize="ControllerResizeInProgress"),
            "; it is to grow from 10Gi to 20Gi",
            id="under way",
        ),
        pytest.param(
            growing(("FileSystemResizePending", "waiting"), resize="NodeResizePending"),
            "; its file system grows to 20Gi where a pod mounts it",
            id="file system",
        ),
        pytest.param(
            growing(("ControllerResizeError", "pool\nis busy")),
            "; it is to grow from 10Gi to 20Gi, which failed and is tried again: pool is busy",
            id="tried again",
        ),
    ],
)
def test_a_volume_that_grows_under_a_serving_model_is_told(children: Children, end: str) -> None:
    status = observe(make_llmservice(cache={"size": "20Gi"}), children, SETTINGS, NOW)
    assert message(status, "ModelCached").endswith(end)
    assert conditions(status)["Ready"] == ("True", "AllReplicasReady")


@pytest.mark.parametrize("resize", ["ControllerResizeInfeasible", "NodeResizeInfeasible"])
def test_a_volume_that_cannot_grow_is_told_and_serves_on(resize: str) -> None:
    children = growing(("ControllerResizeError", "the pool has 12Gi"), resize=resize)
    status = observe(make_llmservice(cache={"size": "20Gi"}), children, SETTINGS, NOW)
    assert conditions(status)["ConfigurationValid"] == ("False", "RejectedByServer")
    assert message(status, "ConfigurationValid") == (
        "Set spec.cache.size to less, but more than 10Gi: PersistentVolumeClaim gemma-cache cannot grow to 20Gi: "
        "the pool has 12Gi"
    )
    assert conditions(status)["Serving"] == ("True", "EndpointsReady")
    assert conditions(status)["ModelCached"][0] == "True"


def test_a_size_that_the_api_server_refuses_is_told_with_what_to_do() -> None:
    refusal = Refusal("PersistentVolumeClaim", "gemma-cache", "RejectedByServer", "only dynamically provisioned")
    children = replace(serving(make_llmservice(cache={"size": "10Gi"}), SETTINGS), refusals=(refusal,))
    status = observe(make_llmservice(cache={"size": "20Gi"}), children, SETTINGS, NOW)
    assert message(status, "ConfigurationValid").startswith("Set spec.cache.size to 10Gi, or let its StorageClass ")
    assert conditions(status)["Serving"] == ("True", "EndpointsReady")


def test_files_with_another_digest_than_asked_for_are_told_with_both() -> None:
    wanted = "sha256:" + "cd" * 32
    llmservice = make_llmservice(model={"digest": wanted})
    status = observe(llmservice, cached(make_llmservice(), SETTINGS), SETTINGS, NOW)
    found = conditions(status)
    assert found["ModelCached"] == ("False", "DigestMismatch")
    assert found["Ready"] == ("False", "DigestMismatch")
    assert found["Stalled"] == ("True", "DigestMismatch")
    assert f"have {DIGEST}, not {wanted}" in message(status, "ModelCached")
    assert status["model"] == {"ref": "google/gemma-3-270m", "resolvedRevision": COMMIT, "digest": DIGEST}


def test_a_server_that_finds_another_digest_is_told_like_a_warm_up() -> None:
    pod = crashing_pod(deployment(), exitCode=65, message=said("DigestMismatch"))
    status = observe(make_llmservice(), starting(pod), SETTINGS, NOW)
    assert conditions(status)["ModelCached"] == ("False", "DigestMismatch")


def test_an_archive_that_is_being_unpacked_is_told_so() -> None:
    settings = make_settings(allowedEndpoints=["https://huggingface.co", "https://models.example.com"])
    llmservice = make_llmservice(source=HTTP_SOURCE)
    children = caching(llmservice, settings)
    report = {"phase": "Unpacking", "progress": {"done": 5, "total": 10, "unit": "bytes"}}
    reports = {children.pods[0]["metadata"]["name"]: report}
    status = observe(llmservice, replace(children, reports=reports), settings, NOW)
    assert status["progress"] == "cache 50%"
    assert message(status, "ModelCached") == "Wait: https://models.example.com/gemma-3-270m.tar.gz is being unpacked"


def test_a_cluster_that_drops_image_volumes_is_told_what_to_enable() -> None:
    llmservice = make_llmservice(source=IMAGE_SOURCE)
    children = serving(llmservice, SETTINGS)
    assert conditions(observe(llmservice, children, SETTINGS, NOW))["ModelCached"] == ("True", "NotRequired")
    assert children.deployment is not None
    pod = children.deployment["spec"]["template"]["spec"]
    pod["volumes"] = [volume for volume in pod["volumes"] if "image" not in volume]
    status = observe(llmservice, replace(children, pods=()), SETTINGS, NOW)
    assert conditions(status)["ConfigurationValid"] == ("False", "RejectedByServer")
    assert "feature gate ImageVolume" in message(status, "ConfigurationValid")


def test_an_image_of_a_volume_that_cannot_be_pulled_is_the_one_that_is_named() -> None:
    llmservice = make_llmservice(source=IMAGE_SOURCE)
    children = serving(llmservice, SETTINGS)
    assert children.deployment is not None
    reference = IMAGE_SOURCE["image"]["reference"]
    pod = waiting_pod(children.deployment, "ErrImagePull", f'failed to pull "{reference}": not found')
    status = observe(llmservice, replace(children, pods=(pod,)), SETTINGS, NOW)
    assert message(status, "Degraded").startswith(f"Check that image {reference} exists and may be pulled")
