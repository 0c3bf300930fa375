"""What goes from a cache volume and what stays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference_server.cache import sweep, volume
from inference_server.settings import ConfigurationError, Settings

SOURCE, OTHER = "models/0011223344556677", "models/8899aabbccddeeff"
OLD, NEW = "a" * 40, "b" * 40
NF4, INT8 = "quantized/1111111111111111", "quantized/2222222222222222"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A volume with two commits of one source, both quantized, and one of another."""
    root = tmp_path / "cache"
    model(root, f"{SOURCE}/{OLD}", OLD)
    model(root, f"{SOURCE}/{NEW}", NEW)
    model(root, f"{OTHER}/{OLD}0", f"{OLD}0")
    model(root, INT8, OLD)
    model(root, NF4, NEW)
    (root / SOURCE / volume.LOCK).touch()
    (root / OTHER / volume.LOCK).touch()
    return root


def model(root: Path, path: str, commit: str) -> None:
    partial = volume.partial_folder(root / path)
    partial.mkdir(parents=True)
    (partial / "model.safetensors").write_bytes(b"weights!")
    volume.publish(root / path, commit, "sha256:0", "none")


def left(root: Path) -> set[str]:
    """Return the folders and files that a person would see in the cache."""
    return {path.relative_to(root).as_posix() for path in (*root.glob("models/*/*"), *root.glob("quantized/*"))}


def test_what_is_kept_stays_with_the_download_it_was_made_from(root: Path) -> None:
    sweep.sweep(root, [NF4])

    assert left(root) == {f"{SOURCE}/{NEW}", f"{SOURCE}/.lock", NF4}
    assert volume.read_manifest(root / NF4) is not None


def test_the_bytes_that_are_freed_are_counted(root: Path) -> None:
    model(root, "quantized/3333333333333333", NEW)
    size = volume.size_of(root / "quantized/3333333333333333")

    assert sweep.sweep(root, [NF4, INT8, f"{OTHER}/{OLD}0"]) == size
    assert sweep.sweep(root, [NF4, INT8, f"{OTHER}/{OLD}0"]) == 0


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f"{SOURCE}/.{'c' * 40}.partial", id="a download that was given up"),
        pytest.param(f"{SOURCE}/.{NEW}.partial", id="an earlier try of a model that is there"),
        pytest.param(f"{SOURCE}/.{'c' * 64}.archive", id="an archive"),
        pytest.param(f"{SOURCE}/.{'c' * 64}.refused", id="what is known of an archive"),
        pytest.param("quantized/.3333333333333333.partial", id="a quantization that ended early"),
        pytest.param("quantized/.1111111111111111.partial", id="an earlier try of a quantization"),
    ],
)
def test_what_was_left_half_done_goes(root: Path, name: str) -> None:
    (root / name).mkdir()
    (root / name / "model.safetensors.incomplete").write_bytes(b"half")

    sweep.sweep(root, [NF4, INT8])

    assert not (root / name).exists()
    assert volume.read_manifest(root / f"{SOURCE}/{NEW}") is not None


def test_what_is_on_its_way_to_the_model_asked_for_stays(root: Path) -> None:
    filling = root / SOURCE / ("c" * 40)
    volume.partial_folder(filling).mkdir()
    archive = filling.with_name(f".{filling.name}.archive")
    archive.touch()

    sweep.sweep(root, [], filling)

    assert left(root) == {f"{SOURCE}/.lock", f"{SOURCE}/.{filling.name}.partial", f"{SOURCE}/.{filling.name}.archive"}


def test_downloads_stay_where_what_is_kept_does_not_say_its_commit(root: Path) -> None:
    (root / NF4 / "model.safetensors").write_bytes(b"damaged")

    sweep.sweep(root, [NF4])

    locks = {f"{SOURCE}/.lock", f"{OTHER}/.lock"}
    assert left(root) == {f"{SOURCE}/{OLD}", f"{SOURCE}/{NEW}", f"{OTHER}/{OLD}0", NF4, *locks}


def test_others_files_on_the_volume_stay(root: Path) -> None:
    others = [root / name for name in ("lost+found", "notes.txt", "models/README", "models/mine", "quantized/x")]
    for path in others:
        path.mkdir() if path.suffix == "" else path.touch()

    sweep.sweep(root, [NF4])

    assert all(path.exists() for path in others)


def test_no_link_is_followed(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    model(elsewhere, "inner", OLD)
    (root / SOURCE / ("d" * 40)).symlink_to(elsewhere)
    (root / "models/ffffffffffffffff").symlink_to(elsewhere)
    (root / f"{SOURCE}/.{OLD}.partial").mkdir()
    (root / f"{SOURCE}/.{OLD}.partial/inside").symlink_to(elsewhere)

    sweep.sweep(root, [NF4])

    assert (elsewhere / "inner/model.safetensors").is_file()
    assert (root / "models/ffffffffffffffff").is_symlink()
    assert left(root) - {"models/ffffffffffffffff/inner"} == {f"{SOURCE}/{NEW}", f"{SOURCE}/.lock", NF4}


def test_nothing_goes_below_a_linked_folder(root: Path, tmp_path: Path) -> None:
    (root / "models").rename(tmp_path / "moved")
    (root / "models").symlink_to(tmp_path / "moved")

    sweep.sweep(root, [NF4])

    assert volume.read_manifest(tmp_path / "moved/0011223344556677" / OLD) is not None


def test_nothing_goes_from_a_volume_that_others_fill(root: Path) -> None:
    volume.mark_shared(root)

    assert sweep.garbage(root, [NF4]) == []


@pytest.fixture
def run(root: Path) -> Callable[..., int]:
    """The command itself."""

    def run(**settings: Any) -> int:
        return sweep.run(Settings(model_name="acme/tiny", cache_dir=root, **settings))

    return run


def test_the_command_keeps_what_it_is_told_to(root: Path, run: Callable[..., int]) -> None:
    assert run(cache_keep=f"{NF4},{INT8}") == 0

    assert left(root) == {f"{SOURCE}/{OLD}", f"{SOURCE}/{NEW}", f"{SOURCE}/.lock", NF4, INT8}


def test_the_command_does_nothing_without_a_word_of_what_is_to_stay(root: Path, run: Callable[..., int]) -> None:
    before = left(root)
    for keep in ("", None):
        with pytest.raises(ConfigurationError, match="LLMSERVICE_CACHE_KEEP"):
            run(cache_keep=keep)
    assert left(root) == before


def test_the_command_does_nothing_on_another_volume(
    root: Path, run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSERVICE_TERMINATION_LOG", str(tmp_path / "message"))
    before = left(root)

    assert run(cache_keep="quantized/9999999999999999") == 75

    assert left(root) == before
    assert "check what is mounted" in (tmp_path / "message").read_text()


def test_the_command_waits_for_no_warm_up(root: Path, run: Callable[..., int]) -> None:
    before = left(root)
    with volume.occupied(root):
        assert run(cache_keep=NF4) == 75
    assert left(root) == before
    assert run(cache_keep=NF4) == 0


@pytest.mark.parametrize("keep", ["/etc", "models/../..", "quantized/.x", "models", "models/a,", "models/a b"])
def test_only_folders_of_the_cache_can_be_named(keep: str) -> None:
    with pytest.raises(ValueError, match="cache_keep"):
        Settings(model_name="acme/tiny", cache_keep=keep)
