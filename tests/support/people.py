"""Users of a control plane who are no administrators: what RBAC gives them, and nothing else."""

import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from tests.support.controlplane import ControlPlane

LLMSERVICES = "llmservices.llmservice.dev"
_DEPLOY = Path(__file__).parents[2] / "deploy"
_RBAC = "rbac.authorization.k8s.io"


def let_write_llmservices(plane: ControlPlane, namespace: str, user: str) -> None:
    """Give `user` what deploy/user-roles.yaml gives editors of LLMServices, and no other right."""
    plane.kubectl("apply", "--server-side", "--filename", str(_DEPLOY / "user-roles.yaml"))
    for role in ("llmservice-edit", "llmservice-view"):
        _bind(plane, namespace, user, role, "ClusterRole")
    _wait_until_allowed(plane, namespace, user, "create", LLMSERVICES)
    _wait_until_allowed(plane, namespace, user, "get", LLMSERVICES)


def let(plane: ControlPlane, namespace: str, user: str, verbs: str, resource: str, name: str | None = None) -> None:
    """Give `user` verbs, as "get,list", on one resource, as "secrets" or "deployments.apps", or on one object of it."""
    kind, _, group = resource.partition(".")
    role = f"{user}-{uuid.uuid4().hex[:8]}"
    rule = {"apiGroups": [group], "resources": [kind], "verbs": verbs.split(",")}
    if name is not None:
        rule["resourceNames"] = [name]
    metadata = {"name": role, "namespace": namespace}
    _apply(plane, {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]})
    _bind(plane, namespace, user, role, "Role")
    _wait_until_allowed(plane, namespace, user, rule["verbs"][0], resource, name)


def install_policies(plane: ControlPlane) -> None:
    """Apply deploy/admission; it is in force a moment later."""
    plane.kubectl("apply", "--server-side", "--kustomize", str(_DEPLOY / "admission"))


def _bind(plane: ControlPlane, namespace: str, user: str, role: str, kind: str) -> None:
    binding = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{user}-{role}", "namespace": namespace},
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": role},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": user}],
    }
    _apply(plane, binding)


def _apply(plane: ControlPlane, manifest: Mapping[str, object]) -> None:
    plane.kubectl("apply", "--server-side", "--filename", "-", stdin=json.dumps(manifest))


def _wait_until_allowed(
    plane: ControlPlane, namespace: str, user: str, verb: str, resource: str, name: str | None = None
) -> None:
    """Return when the API server knows of the right: it reads roles from a watch."""
    path, _, group = resource.partition(".")
    kind, _, subresource = path.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": kind, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": {**attributes, "name": name or ""}},
    }
    deadline = time.monotonic() + 10
    asked = ("create", "--filename", "-", "--output", "jsonpath={.status.allowed}")
    while plane.kubectl(*asked, stdin=json.dumps(review)) != "true":
        assert time.monotonic() < deadline, f"{user} may still not {verb} {resource}"
        time.sleep(0.05)
