import errno
import hashlib
from pathlib import Path

import pytest

from inference_server.cache import volume
from inference_server.cache.failures import WarmupFailure

ENDPOINT = "https://huggingface.co"


def test_the_source_is_named_by_endpoint_and_repository() -> None:
    expected = hashlib.sha256(b"https://huggingface.co\nacme/tiny").hexdigest()[:16]

    assert volume.source_folder(Path("/cache"), ENDPOINT, "acme/tiny") == Path("/cache/models") / expected


def test_every_setting_and_the_commit_have_a_quantized_folder_of_their_own() -> None:
    source = Path("/cache/models/aa")
    variants = [
        volume.quantized_folder(Path("/cache"), source, "c1", {"method": "nf4"}),
        volume.quantized_folder(Path("/cache"), source, "c2", {"method": "nf4"}),
        volume.quantized_folder(Path("/cache"), source, "c1", {"method": "int8"}),
        volume.quantized_folder(Path("/cache"), source, "c1", {"method": "nf4", "bitsandbytes": "0.51"}),
    ]

    assert len(set(variants)) == 4


def test_a_published_folder_is_complete_until_a_file_changes_its_size(tmp_path: Path) -> None:
    folder = tmp_path / "c1"
    volume.partial_folder(folder).mkdir()
    (volume.partial_folder(folder) / "model.safetensors").write_bytes(b"12345")
    assert volume.read_manifest(folder) is None

    manifest = volume.publish(folder, "c1", "sha256:0", "nf4")

    assert volume.read_manifest(folder) == manifest
    assert (manifest.size, manifest.quantization) == (5, "nf4")
    (folder / "model.safetensors").write_bytes(b"1234")
    assert volume.read_manifest(folder) is None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param(errno.ENOSPC, "CacheFull", id="M21 full"),
        pytest.param(errno.EDQUOT, "CacheFull", id="M21 quota"),
        pytest.param(errno.EROFS, "VolumeUnusable", id="M27 read-only"),
        pytest.param(errno.EACCES, "VolumeUnusable", id="another user's"),
    ],
)
def test_what_a_volume_answers_becomes_a_reason(code: int, reason: str, tmp_path: Path) -> None:
    with pytest.raises(WarmupFailure) as failure, volume.writing(tmp_path):
        raise OSError(code, "no", "/cache/x")

    assert failure.value.reason == reason
    assert failure.value.exit_code == 75


def test_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), volume.writing(tmp_path):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_whoever_relies_on_a_volume_keeps_others_from_being_alone_there(tmp_path: Path) -> None:
    with volume.occupied(tmp_path) as first:
        with volume.occupied(tmp_path), first.alone() as is_alone:
            assert not is_alone
        with first.alone() as is_alone:
            assert is_alone


def test_nobody_is_alone_on_a_volume_that_cannot_be_written(tmp_path: Path) -> None:
    with volume.occupied(tmp_path / "missing") as occupancy, occupancy.alone() as is_alone:
        assert not is_alone
