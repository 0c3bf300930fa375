import hashlib
import subprocess
from pathlib import Path

import pytest

from inference_server.checkpoint.digest import check_digest, digest_of
from inference_server.checkpoint.validation import CheckpointProblem
from tests.support.models import write_checkpoint


def told(done: int, total: int) -> None:
    assert 0 < done <= total


def test_the_digest_does_not_depend_on_the_order_of_files() -> None:
    assert digest_of({"b": "22", "a": "11"}) == digest_of({"a": "11", "b": "22"})
    assert digest_of({"a": "11"}) == "sha256:" + hashlib.sha256(b"11  a\n").hexdigest()


@pytest.mark.parametrize("shards", [1, 2])
def test_a_folder_has_the_digest_that_people_compute_of_what_is_loaded(shards: int, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, shards=shards)
    listing = subprocess.run("sha256sum * | LC_ALL=C sort | sha256sum", shell=True, cwd=folder, stdout=-1)
    (folder / "README.md").write_text("not loaded")

    check_digest(folder, f"sha256:{listing.stdout.decode().split()[0]}", told)


def test_another_digest_is_refused_with_both(tmp_path: Path) -> None:
    wanted = "sha256:" + "ab" * 32

    with pytest.raises(CheckpointProblem, match=rf"they have sha256:[a-f0-9]{{64}}, not {wanted}") as problem:
        check_digest(write_checkpoint(tmp_path), wanted, told)

    assert problem.value.reason == "DigestMismatch"
