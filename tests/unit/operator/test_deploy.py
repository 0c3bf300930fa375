"""deploy/: rights without surplus, a restricted pod, profiles that the operator can read, two variants in step."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmservice_operator import crd, names, settings

DEPLOY = Path(__file__).parents[3] / "deploy"


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / path).read_text()))


def test_the_operator_has_exactly_these_rights() -> None:
    role, _ = documents("cluster-role.yaml")
    granted = {
        (group, resource): sorted(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    kept = ["create", "get", "list", "patch", "watch"]
    child = sorted([*kept, "delete"])
    assert granted == {
        ("llmservice.dev", "llmservices"): ["get", "list", "watch"],
        ("llmservice.dev", "llmservices/status"): ["patch"],
        ("llmservice.dev", "llmservices/finalizers"): ["update"],
        ("apps", "deployments"): kept,
        ("apps", "controllerrevisions"): child,
        ("", "services"): kept,
        ("", "serviceaccounts"): kept,
        ("", "configmaps"): child,
        ("", "persistentvolumeclaims"): child,
        ("batch", "jobs"): child,
        ("autoscaling", "horizontalpodautoscalers"): child,
        ("policy", "poddisruptionbudgets"): child,
        ("networking.k8s.io", "networkpolicies"): child,
        ("", "pods"): ["get", "list", "watch"],
        ("", "events"): ["list"],
        ("events.k8s.io", "events"): ["create", "patch"],
    }


def test_both_variants_grant_the_same_rights() -> None:
    cluster_role, _ = documents("cluster-role.yaml")
    role, binding = documents("namespaced/role.yaml")
    assert role["rules"] == cluster_role["rules"]
    assert (role["kind"], binding["kind"], binding["roleRef"]["kind"]) == ("Role", "RoleBinding", "Role")


def test_both_variants_have_the_same_configuration_but_for_the_namespace() -> None:
    (whole,) = documents("config.yaml")
    (namespaced,) = documents("namespaced/config.yaml")
    (kustomization,) = documents("namespaced/kustomization.yaml")
    assert namespaced.pop("watchNamespaces") == [kustomization["namespace"]]
    assert namespaced == whole


@pytest.mark.parametrize("path", ["config.yaml", "namespaced/config.yaml"])
def test_the_operator_reads_the_shipped_configuration(path: str) -> None:
    shipped = settings.load(DEPLOY / path)
    assert set(shipped.profiles) == {"nvidia", "cpu"}
    nvidia, cpu = shipped.profiles["nvidia"], shipped.profiles["cpu"]
    assert shipped.profile("default") == nvidia
    assert (nvidia.gpu.count, nvidia.gpu.resource_name, cpu.gpu.count) == (1, "nvidia.com/gpu", 0)
    assert shipped.allowed_endpoints == ["https://huggingface.co"]


def test_the_operator_runs_restricted_and_bounded() -> None:
    (deployment,) = documents("operator/deployment.yaml")
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["replicas"] == 2
    assert {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}} in container["env"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"] == {"memory": "256Mi"}
    assert container["ports"] == [{"name": "http", "containerPort": names.OPERATOR_PORT}]


def test_the_monitors_find_the_pods_and_their_ports() -> None:
    of_operator, of_servers = (monitor["spec"] for monitor in documents("monitoring/pod-monitors.yaml"))
    (operator,) = documents("operator/deployment.yaml")
    assert of_operator["selector"]["matchLabels"].items() <= operator["spec"]["template"]["metadata"]["labels"].items()
    assert of_operator["podMetricsEndpoints"][0]["port"] == "http"
    assert of_servers["selector"]["matchLabels"].items() <= names.labels("gemma").items()
    assert of_servers["podTargetLabels"] == [names.INSTANCE_LABEL]
    assert of_servers["podMetricsEndpoints"][0]["port"] == names.MANAGEMENT_PORT_NAME


def test_the_namespace_admits_only_restricted_pods() -> None:
    (namespace,) = documents("namespace.yaml")
    labels = namespace["metadata"]["labels"]
    assert {label: labels[f"pod-security.kubernetes.io/{label}"] for label in ("enforce", "warn", "audit")} == {
        "enforce": "restricted",
        "warn": "restricted",
        "audit": "restricted",
    }


def test_the_replicas_agree_on_one_lease() -> None:
    role, binding = documents("operator/leader-election.yaml")
    assert [(rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in role["rules"]] == [
        (["leases"], None, ["create"]),
        (["leases"], [names.LEASE], ["get", "patch"]),
    ]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "llmservice-operator"}]


def test_the_policy_knows_every_field_that_names_a_secret_or_a_claim() -> None:
    policy, _ = documents("admission/references.yaml")
    said = " ".join(rule["messageExpression"] for rule in policy["spec"]["validations"])
    (version,) = crd.manifest()["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    fields = [path for path in _fields(spec, "spec") if re.search(r"SecretRef$|SecretName$|claimName$", path)]
    assert len(fields) >= 4
    assert [path for path in fields if f" in {path}:" not in said] == []


def _fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the path of every field below a schema."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from _fields(inner, f"{path}.{name}")
    if "items" in schema:
        yield from _fields(schema["items"], f"{path}[]")
