"""Where a child was changed by others, and by whom, from the child and its managedFields."""

from typing import Any

import pytest

from llmservice_operator.cluster.drift import drift
from llmservice_operator.manifest import Manifest

BODY: Manifest = {
    "kind": "Deployment",
    "metadata": {"name": "llama", "labels": {"app.kubernetes.io/name": "llmservice"}},
    "spec": {
        "replicas": 1,
        "template": {
            "spec": {"containers": [{"name": "server", "image": "a:1", "resources": {"requests": {"cpu": "1"}}}]}
        },
    },
}
CONTAINER = 'k:{"name":"server"}'


def owned(manager: str, fields: Any, time: str = "2026-01-01T00:00:00Z", **more: str) -> Manifest:
    return {"manager": manager, "operation": "Update", "time": time, "fieldsV1": fields, **more}


def live(*entries: Manifest, labels: Manifest | None = None, **spec: Any) -> Manifest:
    labels = BODY["metadata"]["labels"] if labels is None else labels
    ours = owned("llmservice-operator", {"f:spec": {"f:replicas": {}}}, "2026-01-03T00:00:00Z")
    metadata = {"name": "llama", "labels": labels, "managedFields": [ours, *entries]}
    return {"kind": "Deployment", "metadata": metadata, "spec": {**BODY["spec"], **spec}}


def with_image(image: str) -> Manifest:
    (container,) = BODY["spec"]["template"]["spec"]["containers"]
    return {"spec": {"containers": [{**container, "image": image}]}}


IMAGE_OWNED: Manifest = {"f:spec": {"f:template": {"f:spec": {"f:containers": {CONTAINER: {"f:image": {}}}}}}}
BOOKS = owned("kube-controller-manager", {"f:metadata": {"f:annotations": {}}}, "2026-01-02T00:00:00Z")


@pytest.mark.parametrize(
    ("found", "path", "manager"),
    [
        pytest.param(
            live(owned("kubectl", {"f:spec": {"f:replicas": {}}}, subresource="scale"), BOOKS, replicas=3),
            "spec.replicas",
            "kubectl",
            id="scaled",
        ),
        pytest.param(
            live(owned("kubectl-set", IMAGE_OWNED), BOOKS, template=with_image("evil:1")),
            "spec.template.spec.containers[server].image",
            "kubectl-set",
            id="an image",
        ),
        pytest.param(
            live(owned("old", {}), owned("kubectl-label", {}, "2026-01-02T00:00:00Z"), BOOKS, labels={}),
            "metadata.labels[app.kubernetes.io/name]",
            "kubectl-label",
            id="a label taken away, by who wrote last",
        ),
        pytest.param(live(replicas=3), "spec.replicas", "somebody", id="nobody is told"),
        pytest.param(live(template=None), "spec.template", "somebody", id="no template at all"),
    ],
)
def test_the_first_field_that_differs_and_its_manager(found: Manifest, path: str, manager: str) -> None:
    told = drift(BODY, found)
    assert told is not None
    assert (told.kind, told.name, told.path, told.manager) == ("Deployment", "llama", path, manager)


def test_what_only_changed_its_owner_has_not_drifted() -> None:
    (container,) = BODY["spec"]["template"]["spec"]["containers"]
    same = {**container, "resources": {"requests": {"cpu": "1000m"}}}
    assert drift(BODY, live(owned("kubectl", IMAGE_OWNED), template={"spec": {"containers": [same]}})) is None
