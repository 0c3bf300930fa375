"""What the API server makes of an LLMService: defaults, names, status, scale, columns, explanations, edits."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from llmservice_operator import crd
from tests.support.api_client import Answer, ApiClient
from tests.support.controlplane import ControlPlane
from tests.support.corpus import llmservice

Spec = dict[str, Any]

TINY: Spec = {"model": {"source": {"huggingFace": {"repo": "acme/tiny"}}}}
CPU_METRIC = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
}


@pytest.fixture
def api(plane: ControlPlane, namespace: str) -> Iterator[ApiClient]:
    with ApiClient(plane, namespace) as api:
        yield api


@pytest.fixture
def create(api: ApiClient, namespace: str) -> Callable[..., Answer]:
    def create(spec: Spec, name: str = "example", **options: bool) -> Answer:
        return api.create(llmservice(spec, name, namespace), **options)

    return create


def test_defaults_are_filled_in_and_what_the_profile_decides_stays_open(create: Callable[..., Answer]) -> None:
    assert create(TINY).body["spec"] == {
        "suspend": False,
        "paused": False,
        "replicas": 1,
        "profile": "default",
        "model": {"source": {"huggingFace": {"repo": "acme/tiny", "revision": "main"}}},
        "engine": {"quantization": {"method": "Auto", "computeDtype": "Auto", "doubleQuant": True}},
        "cache": {"reclaimPolicy": "Delete"},
        "service": {"type": "ClusterIP", "port": 80, "sessionAffinity": "None"},
        "rollout": {
            "strategy": "Auto",
            "progressDeadlineSeconds": 1800,
            "onFailure": "Rollback",
            "revisionHistoryLimit": 5,
            "drainTimeoutSeconds": 120,
        },
        "upgradePolicy": {"mode": "Manual"},
        "observability": {"logFormat": "JSON"},
    }


def test_null_is_the_default(create: Callable[..., Answer]) -> None:
    created = create({**TINY, "replicas": None, "service": None, "engine": {"quantization": None}})
    assert created.body["spec"]["replicas"] == 1
    assert created.body["spec"]["service"]["type"] == "ClusterIP"
    assert created.body["spec"]["engine"]["quantization"]["method"] == "Auto"


def test_a_new_object_never_looks_current(create: Callable[..., Answer]) -> None:
    assert create(TINY).body["status"] == {
        "observedGeneration": 0,
        "conditions": [
            {
                "type": "Ready",
                "status": "Unknown",
                "reason": "NotYetObserved",
                "message": "Waiting for the operator",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            }
        ],
    }


@pytest.mark.parametrize("name", ["llama-3-2-3b", "a", "a" * 45])
def test_a_name_that_a_service_can_have_is_accepted(create: Callable[..., Answer], name: str) -> None:
    assert create(TINY, name).accepted


@pytest.mark.parametrize("name", ["llama-3.2-3b", "3b", "a" * 46])
def test_a_name_that_no_service_can_have_is_refused(create: Callable[..., Answer], name: str) -> None:
    refusal = create(TINY, name)
    assert refusal.status == 422
    assert crd.NAME_RULE["message"] in refusal.message


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({**TINY, "replcias": 2}, "spec.replcias", id="C02"),
        pytest.param(
            {
                "model": {
                    "source": {
                        "huggingFace": {"repo": "acme/tiny", "tokenSecretRef": {"name": "token", "namespace": "other"}}
                    }
                }
            },
            "spec.model.source.huggingFace.tokenSecretRef.namespace",
            id="C11",
        ),
        pytest.param(
            {**TINY, "scaling": {"provider": "HPA", "maxReplicas": 2, "metrics": [{**CPU_METRIC, "weight": 1}]}},
            "spec.scaling.metrics[0].weight",
            id="metrics are closed",
        ),
    ],
)
def test_an_unknown_field_is_refused_in_strict_mode_and_dropped_otherwise(
    create: Callable[..., Answer], spec: Spec, field: str
) -> None:
    refusal = create(spec, strict=True)
    assert refusal.status == 400
    assert f'unknown field "{field}"' in refusal.message
    stored = create(spec)
    assert stored.accepted
    assert field.rpartition(".")[2] not in yaml.safe_dump(stored.body["spec"])


SCALING: Spec = {"provider": "HPA", "maxReplicas": 2, "metrics": [CPU_METRIC]}


@pytest.mark.parametrize(
    ("fields", "unknown"),
    [
        pytest.param({"model": {**TINY["model"], "revisionPolicy": "Pinned"}}, "model.revisionPolicy", id="C06"),
        pytest.param({"env": [{"name": "HF_TOKEN", "value": "hf_secret"}]}, "env", id="C13"),
        pytest.param({"env": [{"name": "LD_PRELOAD", "value": "/model/x.so"}]}, "env", id="C14"),
        pytest.param({"engine": {"env": {"HF_ENDPOINT": "http://x"}}}, "engine.env", id="C14 of the engine"),
        pytest.param({"engine": {"name": "vllm"}}, "engine.name", id="C28"),
        pytest.param({"image": "example.com/server:1"}, "image", id="C29"),
        pytest.param({"engine": {"image": "example.com/server:1"}}, "engine.image", id="C29 of the engine"),
        pytest.param({"serviceAccountName": "robot"}, "serviceAccountName", id="C31"),
        pytest.param({"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "volumes", id="C32 hostPath"),
        pytest.param({"hostNetwork": True}, "hostNetwork", id="C32 hostNetwork"),
        pytest.param({"securityContext": {"privileged": True}}, "securityContext", id="C32 privileged"),
        pytest.param({"scheduling": {"affinity": {"podAntiAffinity": {}}}}, "scheduling.affinity", id="C35"),
        pytest.param({"service": {"ports": [{"port": 80}, {"port": 80}]}}, "service.ports", id="C40"),
        pytest.param({"ingress": {"host": "llama.example.com"}}, "ingress", id="C41"),
        pytest.param({"podLabels": {"app": "theirs"}}, "podLabels", id="C45"),
        pytest.param({"files": {"a.txt": "x" * 2**20}}, "files", id="C47"),
        pytest.param({"rollout": {"maxSurge": 0, "maxUnavailable": 0}}, "rollout.maxSurge", id="C56"),
        pytest.param({"auth": {"disabled": True, "mode": "Anonymous"}}, "auth.disabled", id="C58"),
        pytest.param({"engine": {"trustRemoteCode": True}}, "engine.trustRemoteCode", id="C59"),
        pytest.param({"adapters": [{"name": "a", "rank": 4096}]}, "adapters", id="C60"),
        pytest.param({"model": {**TINY["model"], "adapters": [{"name": "a/b"}]}}, "model.adapters", id="C61"),
        pytest.param({"scaling": {**SCALING, "scaleToZeroAfter": "5x"}}, "scaling.scaleToZeroAfter", id="C62"),
    ],
)
def test_what_an_llmservice_does_not_have_is_refused_by_name(
    create: Callable[..., Answer], fields: Spec, unknown: str
) -> None:
    refusal = create({**TINY, **fields}, strict=True, dry_run=True)
    assert refusal.status == 400
    assert f'unknown field "spec.{unknown}"' in refusal.message


@pytest.mark.parametrize(
    ("manifest", "status", "words"),
    [
        pytest.param({"metadata": {"annotations": {"a": "x" * 2**18}}}, 422, "may not be more than 262144", id="C53"),
        pytest.param({"spec": {**TINY, "profile": "x" * 2**20}}, 422, "spec.profile: Too long", id="C46 a field"),
        pytest.param(
            {"spec": {**TINY, "rollout": {"verification": {"prompts": [{"prompt": "x" * 2**20}]}}}},
            422,
            "spec.rollout.verification.prompts[0].prompt: Too long",
            id="C47 a file as a prompt",
        ),
        pytest.param({"spec": {**TINY, "servedName": "x" * 2**22}}, 413, "Request entity too large", id="C46 all"),
    ],
)
def test_an_object_that_is_too_large_is_refused_by_name(
    api: ApiClient, namespace: str, manifest: Spec, status: int, words: str
) -> None:
    whole = llmservice(manifest.get("spec", TINY), namespace=namespace)
    whole["metadata"].update(manifest.get("metadata", {}))
    refusal = api.create(whole)
    assert refusal.status == status, refusal.message
    assert words in refusal.message


def test_c63_a_manifest_that_unfolds_without_end_is_refused(plane: ControlPlane, namespace: str) -> None:
    manifest = yaml.safe_dump(llmservice(TINY, namespace=namespace))
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(Exception, match="excessive aliasing"):
        plane.kubectl("apply", "--server-side", "--filename", "-", stdin="\n".join([manifest, *bomb]))


def test_kubectl_refuses_a_misspelt_field_by_itself(plane: ControlPlane, namespace: str) -> None:
    manifest = yaml.safe_dump(llmservice({**TINY, "replcias": 2}, namespace=namespace))
    with pytest.raises(Exception, match=r'unknown field "spec\.replcias"'):
        plane.kubectl("apply", "--filename", "-", stdin=manifest)


def test_status_belongs_to_the_operator(create: Callable[..., Answer], api: ApiClient) -> None:
    create(TINY)
    api.patch("example", {"status": {"phase": "Serving"}})
    assert "phase" not in api.get("example")["status"]
    api.patch("example", {"status": {"phase": "Serving"}, "spec": {"replicas": 7}}, subresource="/status")
    assert api.get("example")["status"]["phase"] == "Serving"
    assert api.get("example")["spec"]["replicas"] == 1


def test_a_status_write_leaves_the_generation_and_a_spec_write_moves_it(
    create: Callable[..., Answer], api: ApiClient
) -> None:
    create(TINY)
    api.patch("example", {"status": {"phase": "Serving"}}, subresource="/status")
    assert api.get("example")["metadata"]["generation"] == 1
    api.patch("example", {"spec": {"replicas": 2}})
    assert api.get("example")["metadata"]["generation"] == 2


def test_the_status_keeps_what_a_newer_operator_wrote(create: Callable[..., Answer], api: ApiClient) -> None:
    create(TINY)
    newer = {"phase": "Verifying", "verification": {"passed": 2}, "model": {"ref": "acme/tiny", "licence": "MIT"}}
    api.patch("example", {"status": newer}, subresource="/status")
    status = api.get("example")["status"]
    assert status["verification"] == {"passed": 2}
    assert status["model"] == {"ref": "acme/tiny", "licence": "MIT"}


def test_kubectl_scale_reads_and_sets_the_replicas(
    plane: ControlPlane, namespace: str, create: Callable[..., Answer], api: ApiClient
) -> None:
    create(TINY)
    reported = {"replicas": 1, "selector": "app.kubernetes.io/instance=example"}
    api.patch("example", {"status": reported}, subresource="/status")
    plane.kubectl("scale", "llm/example", "--replicas=3", "--namespace", namespace)
    scale = api.get("example", subresource="/scale")
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 1, "selector": "app.kubernetes.io/instance=example"}
    assert api.get("example")["spec"]["replicas"] == 3


def test_the_columns_show_what_the_status_says(
    plane: ControlPlane, namespace: str, create: Callable[..., Answer], api: ApiClient
) -> None:
    create({**TINY, "auth": {"mode": "Anonymous"}})
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "RolloutInProgress",
        "message": "Wait",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    status = {
        "phase": "Updating",
        "readySummary": "1/2",
        "progress": "rollout 1/2",
        "url": "http://example",
        "model": {"ref": "acme/tiny", "quantization": "nf4"},
        "resources": {"gpus": 2},
        "rollout": {"currentRevision": "7d9f"},
        "conditions": [ready, {**ready, "type": "Serving", "status": "True", "reason": "EndpointsReady"}],
    }
    assert api.patch("example", {"status": status}, subresource="/status").accepted
    table = plane.kubectl("get", "llmservices", "--output", "wide", "--namespace", namespace).splitlines()
    assert table[0].split() == [column["name"].upper() for column in [{"name": "Name"}, *crd.PRINTER_COLUMNS]]
    assert table[1].split()[:-1] == [
        *("example", "acme/tiny", "Updating", "1/2", "True", "7d9f", "rollout", "1/2", "RolloutInProgress"),
        *("http://example", "Anonymous", "nf4", "2", "Wait"),
    ]


def test_the_short_names_and_the_category_list_llmservices(
    plane: ControlPlane, namespace: str, create: Callable[..., Answer]
) -> None:
    create(TINY)
    for name in ("llm", "llms", "llmservice", "ai"):
        assert "example" in plane.kubectl("get", name, "--output", "name", "--namespace", namespace)


def test_kubectl_explain_describes_every_field(plane: ControlPlane) -> None:
    root = crd.manifest()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    explained = explanation(plane)

    def check(schema: dict[str, Any], path: str) -> None:
        for name, field in schema.get("properties", {}).items():
            place = f"{path}.{name}"
            assert explained[place] == " ".join(field["description"].split()), place
            check(field.get("items", field), place)

    check(root["spec"], "spec")
    check(root["status"], "status")


def explanation(plane: ControlPlane) -> dict[str, str]:
    """Return the description of every field below spec and status, as the API server publishes it to kubectl explain.

    `kubectl explain --recursive` prints no descriptions, and one call for each field takes minutes: this reads the
    document that kubectl reads.
    """
    path = "/openapi/v3/apis/llmservice.dev/v1alpha1"
    deadline = time.monotonic() + 30
    while True:
        schemas = yaml.safe_load(plane.kubectl("get", "--raw", path))["components"]["schemas"]
        llmservice_schema = schemas.get("dev.llmservice.v1alpha1.LLMService")
        if llmservice_schema is not None:
            break
        assert time.monotonic() < deadline, f"{path} does not show the CRD"
        time.sleep(0.2)
    found: dict[str, str] = {}

    def collect(schema: dict[str, Any], path: str) -> None:
        for name, field in schema.get("properties", {}).items():
            found[f"{path}.{name}"] = " ".join(field.get("description", "").split())
            collect(field.get("items", field), f"{path}.{name}")

    for part in ("spec", "status"):
        collect(llmservice_schema["properties"][part], part)
    return found


def test_kubectl_explain_prints_a_description(plane: ControlPlane) -> None:
    printed = plane.kubectl("explain", "llmservice.spec.model.source.huggingFace.repo")
    assert "Repository on the hub, as owner/name. Example: google/gemma-3-270m." in " ".join(printed.split())


# C48: there is no field that cannot be changed
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"replicas": 3}, {"replicas": 0}, id="C18 scaled to nothing"),
        pytest.param({"cache": {"size": "50Gi"}}, {"cache": {"size": "10Gi"}}, id="C38 a smaller cache"),
        pytest.param({"cache": {"storageClassName": "a"}}, {"cache": {"storageClassName": "b"}}, id="storage class"),
        pytest.param({"cache": {"storageClassName": "a"}}, {"cache": {}}, id="storage class removed"),
        pytest.param(
            {"cache": {"accessMode": "ReadWriteOnce"}}, {"cache": {"accessMode": "ReadWriteMany"}}, id="access mode"
        ),
        pytest.param(
            {"cache": {"reclaimPolicy": "Delete"}}, {"cache": {"reclaimPolicy": "Retain"}}, id="reclaim policy"
        ),
        pytest.param({"cache": {"claimName": "shared"}}, {"cache": {}}, id="shared claim"),
        pytest.param({}, {"model": {"source": {"pvc": {"claimName": "models"}}}}, id="source"),
        pytest.param({}, {"model": {"source": {"huggingFace": {"repo": "acme/other"}}}}, id="repo"),
        pytest.param(
            {},
            {"model": {"source": {"huggingFace": {"repo": "acme/tiny", "revision": "v2"}}}},
            id="revision",
        ),
        pytest.param(
            {"engine": {"quantization": {"method": "BitsAndBytesNF4"}}},
            {"engine": {"quantization": {"method": "None"}}},
            id="C24 quantization",
        ),
        pytest.param({"profile": "nvidia"}, {"profile": "cpu"}, id="profile"),
        pytest.param({"resources": {"gpu": {"count": 1}}}, {"resources": {"gpu": {"count": 0}}}, id="GPU"),
        pytest.param(
            {"service": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}, "auth": {"mode": "Anonymous"}},
            {"service": {"type": "ClusterIP"}},
            id="service and auth removed together",
        ),
        pytest.param(
            {"auth": {"mode": "APIKey", "apiKeysSecretRef": {"name": "keys"}}},
            {"auth": {"mode": "Anonymous"}},
            id="auth mode",
        ),
        pytest.param(
            {}, {"scaling": {"provider": "HPA", "maxReplicas": 3, "metrics": [CPU_METRIC]}}, id="scaling added"
        ),
        pytest.param({"suspend": False, "paused": False}, {"suspend": True, "paused": True}, id="suspend and pause"),
        pytest.param(
            {"scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a"}]}}, {}, id="scheduling removed"
        ),
    ],
)
def test_an_edit_and_its_revert_are_both_accepted(
    plane: ControlPlane, namespace: str, create: Callable[..., Answer], api: ApiClient, before: Spec, after: Spec
) -> None:
    original = create({**TINY, **before})
    assert original.accepted, original.message
    for spec in ({**TINY, **after}, {**TINY, **before}):
        live = api.get("example")
        replaced = api.replace({**live, "spec": spec}, strict=True)
        assert replaced.accepted, replaced.message
    assert api.get("example")["spec"] == original.body["spec"]


def test_an_edit_that_breaks_a_rule_is_refused_and_the_next_one_is_not(
    create: Callable[..., Answer], api: ApiClient
) -> None:
    assert create({**TINY, "service": {"type": "NodePort"}, "auth": {"mode": "Anonymous"}}).accepted
    refusal = api.patch("example", {"spec": {"auth": None}})
    assert refusal.status == 422
    assert "needs spec.auth" in refusal.message
    assert api.patch("example", {"spec": {"replicas": 2}}).accepted
