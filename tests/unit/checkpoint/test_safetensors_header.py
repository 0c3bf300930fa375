import json
from pathlib import Path
from typing import Any

import pytest

from inference_server.checkpoint.safetensors_header import InvalidSafetensors, Tensor, read_header
from tests.support.models import write_safetensors


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(encoded) if length is None else length).to_bytes(8, "little") + encoded + data)
    return path


def tensor(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a", {"x": ("F32", (2,), bytes(8)), "y": ("BF16", (1, 2), bytes(4))})

    assert read_header(tmp_path / "a") == {"x": Tensor("F32", (2,), 0, 8), "y": Tensor("BF16", (1, 2), 8, 12)}


@pytest.mark.parametrize(
    ("header", "data", "length", "message"),
    [
        pytest.param(b"\x80\x04\x95pickle", b"", 1 << 40, "cut off, or not safetensors", id="M02 pickle"),
        pytest.param({}, b"", 1 << 63, "cut off, or not safetensors", id="M03 header beyond the file"),
        pytest.param(b"[1]", b"", None, "not a JSON object", id="header is a list"),
        pytest.param(b"[" * 100_000, b"", None, "not JSON", id="header nested too deep"),
        pytest.param({"x": tensor(0, 8, [2])}, bytes(4), None, "holds 4 bytes", id="M06 cut off"),
        pytest.param({"x": tensor(0, 8, [2])}, bytes(12), None, "holds 12 bytes", id="bytes of no tensor"),
        pytest.param(
            {"x": tensor(0, 8, [2]), "y": tensor(4, 12, [2])}, bytes(12), None, "begins at 4", id="M04 overlap"
        ),
        pytest.param({"x": tensor(4, 12, [2])}, bytes(12), None, "begins at 4", id="M04 gap"),
        pytest.param({"x": tensor(0, 8, [3])}, bytes(8), None, "does not fill", id="shape against bytes"),
        pytest.param({"x": tensor(0, 8, [-2])}, bytes(8), None, "no size", id="negative size"),
        pytest.param({"x": tensor(0, 8, [2], "F31")}, bytes(8), None, "unknown dtype", id="unknown dtype"),
        pytest.param({"x": {"shape": [2]}}, bytes(8), None, "has no dtype", id="fields missing"),
        pytest.param({"x": 5}, bytes(8), None, "has no dtype", id="entry is a number"),
    ],
)
def test_a_damaged_or_hostile_header_is_refused(
    header: Any, data: bytes, length: int | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSafetensors, match=message):
        read_header(write(tmp_path / "x", header, data, length))


def test_m05_a_header_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x", b"{}", length=1 << 30)
    with path.open("r+b") as file:
        file.truncate((1 << 30) + 8)  # sparse: no disk, no memory

    with pytest.raises(InvalidSafetensors, match="above the limit"):
        read_header(path)


def test_m17_a_git_lfs_pointer_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")

    with pytest.raises(InvalidSafetensors, match="Git LFS pointer"):
        read_header(tmp_path / "x")
