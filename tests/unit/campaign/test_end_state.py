"""What the campaign compares sees a difference of substance, and none that only tells the way."""

import copy
from typing import Any

import pytest

from tests.campaign.end_state import compared

Manifest = dict[str, Any]
TEMPLATE: Manifest = {
    "spec": {
        "containers": [{"envFrom": [{"configMapRef": {"name": "llama-config-1"}}]}],
        "volumes": [{"persistentVolumeClaim": {"claimName": "llama-cache"}}],
    }
}


def _object(name: str, **rest: Any) -> Manifest:
    return {"metadata": {"name": name}, **rest}


def _children() -> dict[str, list[Manifest]]:
    return {
        "Deployment": [_object("llama", spec={"replicas": 2, "template": TEMPLATE})],
        "ConfigMap": [_object("llama-config-1", data={"MAX_TOKENS": "1"})],
        "PersistentVolumeClaim": [_object("llama-cache", spec={"resources": {"requests": {"storage": "1Gi"}}})],
        "Service": [_object("llama", spec={"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]})],
        "Job": [],
        "ControllerRevision": [],
    }


def _service(**spec: Any) -> Manifest:
    source = {"huggingFace": {"repo": "acme/tiny"}}
    whole = {"suspend": False, "model": {"source": source}, "cache": {"reclaimPolicy": "Delete"}, **spec}
    status = {"conditions": [], "replicas": 2, "readyReplicas": 2, "readySummary": "2/2", "resources": {"gpus": 2}}
    return {"spec": whole, "status": status}


def _with(kind: str, *manifests: Manifest) -> dict[str, list[Manifest]]:
    children = _children()
    return {**children, kind: [*children[kind], *manifests]}


@pytest.mark.parametrize(
    "children",
    [
        pytest.param(_with("Job", _object("llama-warmup-1")), id="a warm-up"),
        pytest.param(_with("ControllerRevision", _object("llama-1")), id="a revision"),
        pytest.param(_with("ConfigMap", _object("llama-config-2")), id="the configuration of an earlier revision"),
    ],
)
def test_what_is_kept_of_the_way_is_no_difference(children: dict[str, list[Manifest]]) -> None:
    assert compared(_service(), children) == compared(_service(), _children())


def test_size_of_a_volume_and_drawn_ports_are_no_difference() -> None:
    children = _children()
    children["PersistentVolumeClaim"][0]["spec"]["resources"]["requests"]["storage"] = "2Gi"
    children["Service"][0]["spec"]["ports"][0]["nodePort"] = 30002
    assert compared(_service(), children) == compared(_service(), _children())


@pytest.mark.parametrize("kind", ["Deployment", "Service", "PersistentVolumeClaim"])
def test_one_child_too_many_is_a_difference(kind: str) -> None:
    extra = copy.deepcopy(_children()[kind][0])
    extra["metadata"]["name"] = "left-over"
    assert compared(_service(), _with(kind, extra)) != compared(_service(), _children())


def test_another_volume_is_a_difference_only_where_the_spec_asks_to_delete() -> None:
    children = _with("PersistentVolumeClaim", _object("llama-cache-2", spec={}))
    retained = _service(cache={"reclaimPolicy": "Retain"})
    assert compared(retained, children) == compared(retained, _children())
    assert compared(_service(), children) != compared(_service(), _children())


@pytest.mark.parametrize(("part", "value"), [("type", "ClusterIP"), ("sessionAffinity", "ClientIP")])
def test_a_field_of_a_child_is_a_difference(part: str, value: str) -> None:
    children = _children()
    children["Service"][0]["spec"][part] = value
    assert compared(_service(), children) != compared(_service(), _children())


def test_a_reason_is_a_difference() -> None:
    service = _service()
    service["status"]["conditions"] = [{"type": "Ready", "status": "True", "reason": "AllReplicasReady"}]
    assert compared(service, _children()) != compared(_service(), _children())


@pytest.mark.parametrize(("most", "is_same"), [(3, True), (2, False)])
def test_replicas_are_an_autoscalers_within_its_bounds(most: int, is_same: bool) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": most}
    service, children = _service(scaling=scaling), _children()
    service["status"] |= {"replicas": 3, "readyReplicas": 3, "readySummary": "3/3", "resources": {"gpus": 3}}
    children["Deployment"][0]["spec"]["replicas"] = 3
    assert (compared(service, children) == compared(_service(scaling=scaling), _children())) is is_same
