"""Every pod of ours passes Pod Security "restricted" without one warning."""

from __future__ import annotations

import yaml

from demo.install import OPERATOR_NAMESPACE
from demo.kubectl import Kubectl, Manifest, wait_for
from demo.watch import is_ready
from tests.e2e.conftest import llmservice


def warnings_for(kubectl: Kubectl, workload: Manifest) -> str:
    """Return what the API server says of the pod of a Deployment or Job in this namespace."""
    template = workload["spec"]["template"]
    metadata = {"name": f"checked-{workload['kind'].lower()}", "labels": template["metadata"]["labels"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    done = kubectl.attempt("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_operator_server_and_warm_up_are_admitted_without_a_warning(kubectl: Kubectl) -> None:
    kubectl.apply(llmservice("model", profile="fake"))
    wait_for(lambda: is_ready(kubectl.get("llmservice", "model")), seconds=90, what="the service is Ready")
    operator = kubectl.in_namespace(OPERATOR_NAMESPACE).get("deployment", "llmservice-operator")
    workloads = [kubectl.get("deployment", "model"), *kubectl.list("jobs")]
    assert len(workloads) == 2
    for workload in workloads:
        assert workload is not None
        assert warnings_for(kubectl, workload) == ""
    assert operator is not None
    operator["spec"]["template"]["spec"].pop("serviceAccountName")
    operator["spec"]["template"]["spec"].pop("serviceAccount", None)
    assert warnings_for(kubectl, operator) == ""
