"""deploy/ and examples/ on a real API server: each applies as it is, strictly and without a warning."""

import subprocess
from pathlib import Path

import pytest

from tests.support.controlplane import ControlPlane

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = sorted((REPOSITORY / "examples").glob("*.yaml"))


def kubectl(plane: ControlPlane, *arguments: str) -> tuple[str, str]:
    """Run kubectl as administrator; return what it printed and what it warned of."""
    command = ["kubectl", "--kubeconfig", str(plane.kubeconfig), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return ran.stdout, ran.stderr


@pytest.fixture(scope="module")
def namespaces(plane: ControlPlane) -> None:
    """The namespaces of both installations: a dry run of the whole would not find them."""
    plane.kubectl("apply", "--server-side", "--filename", str(REPOSITORY / "deploy" / "namespace.yaml"))
    plane.kubectl("create", "namespace", "llmservice-team")


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("folder", ["crds", "deploy", "deploy/admission", "deploy/namespaced"])
def test_the_installation_is_accepted_without_a_warning(plane: ControlPlane, folder: str) -> None:
    place = str(REPOSITORY / folder)
    applied, warnings = kubectl(
        plane, "apply", "--server-side", "--dry-run=server", "--validate=strict", "--kustomize", place
    )
    assert "serverside-applied" in applied
    assert warnings == ""


@pytest.mark.usefixtures("namespaces")
def test_an_installation_by_client_side_apply_fits_its_annotation(plane: ControlPlane) -> None:
    applied, _ = kubectl(plane, "apply", "--dry-run=server", "--kustomize", str(REPOSITORY / "deploy"))
    assert "deployment.apps/llmservice-operator created (server dry run)" in applied


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_accepted_as_it_is(plane: ControlPlane, namespace: str, example: Path) -> None:
    arguments = ("apply", "--validate=strict", "--namespace", namespace, "--filename", str(example))
    applied, warnings = kubectl(plane, *arguments)
    assert applied == f"llmservice.llmservice.dev/{example.stem} created\n"
    assert warnings == ""


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(
    ("user", "verb", "allowed"),
    [("edit", "create", "yes"), ("edit", "patch", "yes"), ("view", "list", "yes"), ("view", "create", "no")],
)
def test_who_may_edit_or_view_a_namespace_may_do_so_with_its_llmservices(
    plane: ControlPlane, namespace: str, user: str, verb: str, allowed: str
) -> None:
    plane.kubectl("apply", "--filename", str(REPOSITORY / "deploy" / "user-roles.yaml"))
    plane.kubectl("create", "rolebinding", user, f"--clusterrole={user}", f"--user={user}", "--namespace", namespace)
    question = ("auth", "can-i", verb, "llmservices", "--as", user, "--namespace", namespace)
    command = ["kubectl", "--kubeconfig", str(plane.kubeconfig), *question]
    # The exit code says no, too.
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert asked.stdout.strip() == allowed
