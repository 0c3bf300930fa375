import tarfile
import zipfile
from pathlib import Path

import pytest

from inference_server.cache import archive
from inference_server.cache.failures import WarmupFailure
from inference_server.cache.listing import FILES_LIMIT

LIMIT_BYTES = 1_000_000


def tar(path: Path, *members: tarfile.TarInfo | str) -> Path:
    """Write an archive of empty files by these names, or of these members."""
    with tarfile.open(path, "w") as opened:
        for member in members:
            opened.addfile(tarfile.TarInfo(member) if isinstance(member, str) else member)
    return path


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "config.json"
    return member


def names(path: Path) -> list[str]:
    with archive.opened(path, "a.tar", LIMIT_BYTES) as opened:
        return [file.name for file in opened.files]


@pytest.mark.parametrize(
    ("members", "found"),
    [
        pytest.param(["config.json", "vocab.json"], ["config.json", "vocab.json"], id="at the root"),
        pytest.param(["./config.json"], ["config.json"], id="with a dot"),
        pytest.param(["m/config.json", "m/vocab.json", "LICENSE"], ["config.json", "vocab.json"], id="in a folder"),
        pytest.param(["__MACOSX/m/._config.json", "m/config.json"], ["config.json"], id="from a Mac"),
        pytest.param(["m/config.json", "m/onnx/config.json"], ["config.json", "onnx/config.json"], id="the shallowest"),
        pytest.param(["README.md"], ["README.md"], id="no model"),
    ],
)
def test_the_model_is_the_folder_of_its_config(members: list[str], found: list[str], tmp_path: Path) -> None:
    assert names(tar(tmp_path / "a.tar", *members)) == found


@pytest.mark.parametrize(
    ("members", "reason", "message"),
    [
        pytest.param(["/etc/passwd"], "UnsafeFiles", "leads out of its folder", id="absolute"),
        pytest.param(["m/../../x"], "UnsafeFiles", "leads out of its folder", id="parent"),
        pytest.param(["a\nb"], "UnsafeFiles", "control characters", id="line break"),
        pytest.param([special("x", tarfile.SYMTYPE)], "UnsafeFiles", "'x' of a.tar is a link", id="symbolic link"),
        pytest.param([special("x", tarfile.LNKTYPE)], "UnsafeFiles", "'x' of a.tar is a link", id="hard link"),
        pytest.param([special("x", tarfile.BLKTYPE)], "UnsafeFiles", "a device", id="device"),
        pytest.param([special("x", tarfile.FIFOTYPE)], "UnsafeFiles", "a device", id="pipe"),
        pytest.param(["config.json", "./config.json"], "ModelInvalid", "twice", id="twice"),
        pytest.param(["a/config.json", "b/config.json"], "ModelInvalid", "archive one model", id="two models"),
    ],
)
def test_an_archive_is_refused_by_what_it_lists(
    members: list[tarfile.TarInfo | str], reason: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(WarmupFailure, match=message) as failure:
        names(tar(tmp_path / "a.tar", *members))

    assert failure.value.reason == reason


def test_an_archive_of_more_files_than_a_model_has_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert FILES_LIMIT == 20_000
    monkeypatch.setattr("inference_server.cache.archive.FILES_LIMIT", 20)
    assert len(names(tar(tmp_path / "most.tar", "config.json", *(f"{number}.txt" for number in range(19))))) == 20
    with pytest.raises(WarmupFailure, match="more than 20 files") as failure:
        names(tar(tmp_path / "a.tar", "config.json", *(f"{number}.txt" for number in range(20))))

    assert failure.value.reason == "ModelInvalid"


def test_an_archive_that_unpacks_to_more_than_there_can_be_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("config.json", b"\0" * (LIMIT_BYTES + 1))

    with pytest.raises(WarmupFailure, match="more than the whole volume") as failure:
        names(tmp_path / "a.zip")

    assert failure.value.reason == "CacheFull"


def test_links_and_encrypted_files_of_a_zip_archive_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("x")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr(link, "/etc/passwd")

    with pytest.raises(WarmupFailure, match="is a link"):
        names(tmp_path / "a.zip")
