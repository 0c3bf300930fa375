"""A real API server with its controllers and no node, for tests/cluster; the code is the cluster tool's own.

    from tests.support.controlplane import control_plane

    @pytest.fixture(scope="session")
    def plane(tmp_path_factory):
        with control_plane(tmp_path_factory.mktemp("plane")) as plane:
            yield plane

No kubelet runs, so pods stay Pending until the test writes their status: every rollout is scripted.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster.controlplane import ControlPlane

__all__ = ["ControlPlane", "control_plane"]


@contextmanager
def control_plane(
    directory: Path, extra_arguments: Mapping[str, Sequence[str]] | None = None
) -> Iterator[ControlPlane]:
    """Run a control plane of its own below `directory`, on free loopback ports, ready when the body starts."""
    with ControlPlane(directory, extra_arguments=extra_arguments or {}) as plane:
        yield plane
