"""What deploy/ grants the operator is what it uses: each right is taken by some request, and no request lacks one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.api import Api, Manifest, Right, denied, used
from tests.support.controlplane import ControlPlane
from tests.support.played_node import played_node
from tests.support.running_operator import running_operator
from tests.support.stage import autoscaled, llmservice, wait_condition

DEPLOY = Path(__file__).parents[2] / "deploy"
ROLES = (DEPLOY / "cluster-role.yaml", DEPLOY / "operator" / "leader-election.yaml")
USER = "system:serviceaccount:llmservice-system:llmservice-operator"
NOT_ASKED_FOR = {
    # Where OwnerReferencesPermissionEnforcement is on, the API server asks for it when a child with a blocking owner
    # reference is written; no request names it.
    Right("llmservice.dev", "llmservices/finalizers", "update"),
}
USED_SECONDS = 60.0


def _granted() -> Iterator[Right]:
    """Yield the rights in the roles of deploy/."""
    roles: list[Manifest] = [next(yaml.safe_load_all(path.read_text())) for path in ROLES]
    for rule in (rule for role in roles for rule in role["rules"]):
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield from (Right(group, resource, verb) for verb in rule["verbs"])


@pytest.fixture
def kubeconfig(plane: ControlPlane, namespace: str) -> Path:
    """The operator's account with the roles of deploy/, bound in one namespace."""
    plane.kubectl("apply", "--server-side", "--filename", str(ROLES[0]))
    plane.kubectl("apply", "--server-side", "--filename", str(ROLES[1]), "--namespace", namespace)
    for role in ("clusterrole=llmservice-operator", "role=llmservice-operator-leader-election"):
        name = role.replace("=", "-")
        plane.kubectl("create", "rolebinding", name, f"--{role}", f"--user={USER}", "--namespace", namespace)
    return plane.kubeconfig_for(USER)


@pytest.mark.timeout(300)
async def test_the_rights_of_deploy_are_those_that_the_operator_uses(
    plane: ControlPlane, namespace: str, kubeconfig: Path
) -> None:
    async with (
        Api(plane, namespace) as api,
        running_operator(kubeconfig, namespace, has_lease=True),
        played_node(api),
    ):
        await _live(api)

        async def is_each_used() -> bool:
            # The Job's controller takes such a pod away again, now and then before the operator has seen it.
            await _leave_a_pod_running(api)
            return set(_granted()) - NOT_ASKED_FOR <= used(plane, USER)

        try:
            await api.eventually("each right is used", is_each_used, USED_SECONDS)
        finally:
            assert set(_granted()) - NOT_ASKED_FOR - used(plane, USER) == set()
    assert used(plane, USER) <= set(_granted())
    assert denied(plane, USER) == []


async def _live(api: Api) -> None:
    """Let an LLMService go through everything in which the operator writes or looks."""
    extras: dict[str, Any] = {"disruption": {"maxUnavailable": 1}, "networkPolicy": {"mode": "Offline"}}
    await api.create(llmservice("llama", scaling=autoscaled(), rollout={"revisionHistoryLimit": 1}, **extras))
    await wait_condition(api, "llama", "Ready", "True", within_seconds=60)
    changes: list[Manifest] = [
        {"scaling": None, **dict.fromkeys(extras)},
        *({"engine": {"maxModelLen": length}} for length in (1024, 2048, 4096)),
        {"cache": {"accessMode": "ReadWriteMany"}},
        *({"suspend": is_suspended} for is_suspended in (True, False, True, False)),
    ]
    for change in changes:
        await api.merge("LLMService", "llama", {"spec": change})
        await wait_condition(api, "llama", "Ready", "True", within_seconds=60)


async def _leave_a_pod_running(api: Api) -> None:
    """Add a pod to the finished Job that has not ended: what the operator does not see end it looks at."""
    (job,) = await api.all("Job")
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
    labels = {**job["metadata"]["labels"], "app.kubernetes.io/component": "server"}
    metadata = {"generateName": "late-", "labels": labels, "ownerReferences": [{**owner, "controller": True}]}
    template = job["spec"]["template"]["spec"]
    await api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template})
