"""One control plane for all tests of this folder, with the CRD applied, and a namespace for each test."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.api import Api
from tests.support.controlplane import ControlPlane, control_plane
from tests.support.running_operator import running_operator


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real API server with its controllers, no node, and LLMServices known to it."""
    with control_plane(tmp_path_factory.mktemp("plane")) as plane:
        yield plane


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    """A namespace of the test's own; it goes with the control plane."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", name)
    return name


@pytest.fixture
async def api(plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    """That namespace, as a person with kubectl sees it."""
    async with Api(plane, namespace) as api:
        yield api


@pytest.fixture
async def operated(plane: ControlPlane, api: Api) -> AsyncIterator[Api]:
    """The same, with an operator at work."""
    async with running_operator(plane.kubeconfig, api.namespace):
        yield api
