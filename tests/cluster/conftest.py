"""One control plane for all tests of this folder, with the CRD applied, and a namespace for each test."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.controlplane import ControlPlane, control_plane

CRD_FILE = Path(__file__).parents[2] / "crds" / "llmservice.yaml"


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real API server with its controllers, no node, and LLMServices known to it."""
    with control_plane(tmp_path_factory.mktemp("plane")) as plane:
        plane.kubectl("apply", "--server-side", "--filename", str(CRD_FILE))
        plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/llmservices.llmservice.dev")
        yield plane


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    """A namespace of the test's own; it goes with the control plane."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", name)
    return name
