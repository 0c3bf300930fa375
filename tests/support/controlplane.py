"""A real API server with its controllers, no node, and our resource definition; the code is the cluster tool's own.

    from tests.support.controlplane import control_plane

    @pytest.fixture(scope="session")
    def plane(tmp_path_factory):
        with control_plane(tmp_path_factory.mktemp("plane")) as plane:
            yield plane

No kubelet runs, so pods stay Pending until the test writes their status: every rollout is scripted.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster.controlplane import ControlPlane

__all__ = ["ControlPlane", "control_plane"]

AUTOSCALER_PERIOD = "--horizontal-pod-autoscaler-sync-period=2s"
"""The default of 15 seconds is how long a test would wait for an autoscaler's first look."""
CRD_FILE = Path(__file__).parents[2] / "crds" / "llmservice.yaml"


@contextmanager
def control_plane(directory: Path, etcd: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """Run a control plane of its own below `directory`, on free loopback ports, that knows LLMServices.

    Image volumes are on, as they are by default from Kubernetes 1.35. `etcd` are more flags of etcd's.
    """
    arguments = {
        "etcd": etcd,
        "kube-apiserver": ["--feature-gates=ImageVolume=true"],
        "kube-controller-manager": [AUTOSCALER_PERIOD],
    }
    with ControlPlane(directory, extra_arguments=arguments) as plane:
        plane.kubectl("apply", "--server-side", "--filename", str(CRD_FILE))
        plane.wait_established("llmservices.llmservice.dev")
        yield plane
