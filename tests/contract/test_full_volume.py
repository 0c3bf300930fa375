"""A warm-up on a real file system that is too small, and what becomes of it when that has grown."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from inference_server.cache import volume
from tests.support.hub.server import Hub, running
from tests.support.models import write_checkpoint
from tests.support.warmup import Cache

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
REPO = "acme/tiny"
PROPOSAL = "enlarge the cache to 1Gi: "


@dataclass
class Volume(Cache):
    """A hub with one model, and a cache that is a file system of its own."""

    hub: Hub = field(kw_only=True)
    model: Path = field(kw_only=True)

    def resize(self, size_bytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size_bytes}", self.folder], check=True)

    @property
    def weights(self) -> int:
        return sum(path.stat().st_size for path in self.model.glob("*.safetensors"))

    def partial(self) -> list[str]:
        """Return what lies in folders of models that are not whole."""
        return [path.name for path in self.folder.glob("*/**/*") if ".partial" in path.parent.name]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Volume]:
    monkeypatch.setenv("LLMSERVICE_TERMINATION_LOG", str(tmp_path / "message"))
    model = write_checkpoint(tmp_path / "hub" / REPO, shards=3)
    hub = Hub(tmp_path / "hub")
    with running(hub) as endpoint:
        place = Volume(tmp_path, {"model_name": REPO, "hub_endpoint": endpoint}, hub=hub, model=model)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place.folder], check=False)
        if mounted.returncode != 0:
            pytest.skip("no file system can be mounted here")
        try:
            yield place
        finally:
            subprocess.run(["umount", place.folder], check=True)


def test_a_download_that_does_not_fit_is_refused_with_what_would(place: Volume) -> None:
    place.resize(place.weights // 2)

    code, reason, message = place.fails()

    assert (code, reason) == (75, "CacheFull")
    assert message.startswith(PROPOSAL)
    assert not [name for name in place.partial() if "safetensors" in name and "index" not in name]


def test_a_volume_that_fills_up_on_the_way_keeps_what_came_and_goes_on_when_it_has_grown(
    place: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.resize(place.weights // 2)
    with monkeypatch.context() as blind:
        blind.setattr(volume, "check_space", lambda root, needed_bytes, parts: None)
        code, reason, message = place.fails()
    assert (code, reason) == (75, "CacheFull")
    assert message.startswith(PROPOSAL)
    assert "model-00001-of-00003.safetensors" in place.partial()

    place.resize(64 << 20)
    place.hub.requests.clear()
    assert place.warm_up() == 0
    shards = [
        request.path.rpartition("/")[2] for request in place.hub.requests if request.path.endswith(".safetensors")
    ]
    assert "model-00001-of-00003.safetensors" not in shards
    assert place.said["verdict"]["outcome"] == "Downloaded"


def test_a_quantization_that_does_not_fit_is_refused_before_it_begins_though_the_download_is_there(
    place: Volume,
) -> None:
    place.warm_up()
    downloaded = place.served()
    place.resize(volume.folder_size(place.folder) + 32768)

    code, reason, message = place.fails(quantization="nf4")

    assert (code, reason) == (75, "CacheFull")
    assert f"{REPO} quantized to nf4" in message
    assert volume.read_manifest(downloaded) is not None


def test_a_volume_that_fills_up_while_a_model_is_quantized_keeps_no_half_of_it(
    place: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.warm_up()
    place.resize(volume.folder_size(place.folder) + 32768)
    with monkeypatch.context() as blind:
        blind.setattr(volume, "check_space", lambda root, needed_bytes, parts: None)
        code, reason, message = place.fails(quantization="nf4")
    assert (code, reason) == (75, "CacheFull")
    assert message.startswith(PROPOSAL)
    assert place.partial() == []

    place.resize(64 << 20)
    assert place.warm_up(quantization="nf4") == 0
