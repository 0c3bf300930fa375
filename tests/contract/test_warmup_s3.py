"""The warm-up with a folder of a bucket, on a real S3 server that checks every signature."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from inference_server.cache import transfer, volume
from tests.support import s3_server
from tests.support.models import write_checkpoint
from tests.support.s3_server import REGION, ROOT, S3Server
from tests.support.warmup import Cache

KEYS = {"aws_access_key_id": ROOT.access_key_id, "aws_secret_access_key": ROOT.secret_access_key}
SHARD = "model-00002-of-00002.safetensors"


@dataclass
class Place(Cache):
    """A bucket with one model in the folder `models/tiny`, and an empty cache."""

    server: S3Server = field(kw_only=True)
    bucket: str = field(kw_only=True)
    model: Path = field(kw_only=True)

    @property
    def partial(self) -> Path:
        """Where the files grow, once a warm-up has begun."""
        return next(self.folder.glob("models/*/.*.partial"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server.running(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("LLMSERVICE_TERMINATION_LOG", str(tmp_path / "message"))
    monkeypatch.setattr(transfer, "RETRY_WAITS_SECONDS", (0.01,))
    model, bucket = write_checkpoint(tmp_path / "model", shards=2), f"test-{uuid4()}"
    server.put(bucket)
    server.upload(model, f"{bucket}/models/tiny")
    given = {
        "model_name": "tiny",
        "s3_uri": f"s3://{bucket}/models/tiny",
        "s3_endpoint": server.endpoint,
        "s3_region": REGION,
        **KEYS,
    }
    return Place(tmp_path, given, server=server, bucket=bucket, model=model)


def test_a_model_is_downloaded_byte_for_byte(place: Place) -> None:
    assert place.warm_up() == 0

    assert place.said["verdict"]["outcome"] == "Downloaded"
    for file in place.model.iterdir():
        assert (place.served() / file.name).read_bytes() == file.read_bytes()


def test_a_second_warm_up_finds_everything(place: Place) -> None:
    place.warm_up()
    first = place.said["verdict"]

    assert place.warm_up(s3_uri=f"{place.given['s3_uri']}/") == 0
    assert place.said["verdict"] == {**first, "outcome": "AlreadyPresent"}


def test_new_files_are_another_commit_beside_the_old_one_and_others_are_not(place: Place) -> None:
    place.warm_up()
    old, first = place.served(), place.said["verdict"]["commit"]
    place.server.put(f"{place.bucket}/models/tiny/README.md", b"not loaded")
    place.warm_up()
    assert place.said["verdict"]["commit"] == first

    place.server.put(f"{place.bucket}/models/tiny/generation_config.json", b"{}")
    place.warm_up()

    assert place.served() != old
    assert (place.served() / "generation_config.json").read_text() == "{}"
    assert (old / "config.json").is_file()


def test_nothing_of_folders_beside_or_below_is_taken(place: Place) -> None:
    place.server.put(f"{place.bucket}/models/tiny-2/vocab.json", b"{}")
    place.server.put(f"{place.bucket}/models/tiny/onnx/merges.txt", b"")

    assert place.warm_up() == 0
    assert {"vocab.json", "onnx", "merges.txt"}.isdisjoint(path.name for path in place.served().iterdir())


def test_a_model_may_lie_at_the_root_of_its_bucket_and_share_it_with_thousands(place: Place) -> None:
    place.server.upload(place.model, place.bucket)
    for number in range(1001):
        place.server.put(f"{place.bucket}/a note & more {number}.txt")

    assert place.warm_up(s3_uri=f"s3://{place.bucket}") == 0


def test_names_that_a_url_has_to_encode_are_signed_as_they_are_sent(place: Place) -> None:
    place.server.upload(place.model, f"{place.bucket}/my models/100% + more~")

    assert place.warm_up(s3_uri=f"s3://{place.bucket}/my models/100% + more~") == 0


def test_what_a_crash_left_is_taken_up_and_checked(place: Place) -> None:
    (place.model / SHARD).write_bytes(b"no weights")
    place.server.upload(place.model, f"{place.bucket}/models/tiny")
    assert place.fails()[:2] == (65, "ModelInvalid")
    (place.partial / SHARD).unlink()
    (place.partial / f"{SHARD}.incomplete").write_bytes(b"no wei")

    place.fails()

    assert (place.partial / SHARD).read_bytes() == b"no weights"


def test_an_object_that_changed_since_it_was_listed_is_not_taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    check_space = volume.check_space

    def overwrite(root: Path, needed_bytes: int, parts: str) -> None:
        place.server.put(f"{place.bucket}/models/tiny/{SHARD}", (place.model / SHARD).read_bytes()[::-1])
        check_space(root, needed_bytes, parts)

    monkeypatch.setattr(volume, "check_space", overwrite)

    code, reason, message = place.fails()

    assert (code, reason) == (75, "DigestMismatch")
    assert "changed while it was downloaded" in message


# What is refused.


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        pytest.param({"aws_secret_access_key": "wrong"}, "AccessDenied", id="wrong secret"),
        pytest.param({"aws_access_key_id": None, "aws_secret_access_key": None}, "AccessDenied", id="anonymous"),
        pytest.param({"s3_uri": "s3://no-such-bucket-here/models"}, "ModelNotFound", id="no bucket"),
        pytest.param({"aws_secret_access_key": "\n"}, "SecretKeyInvalid", id="empty secret"),
    ],
)
def test_what_s3_answers_becomes_a_reason(settings: dict[str, str | None], reason: str, place: Place) -> None:
    code, found, message = place.fails(**settings)

    assert (code, found) == (65, reason)
    assert ROOT.secret_access_key not in message


def test_a_folder_without_files_is_named(place: Place) -> None:
    code, reason, message = place.fails(s3_uri=f"s3://{place.bucket}/models/none")

    assert (code, reason) == (65, "ModelNotFound")
    assert f"s3://{place.bucket}/models/none" in message


def test_what_is_no_s3_server_is_said_so(place: Place) -> None:
    assert place.fails(s3_endpoint="http://127.0.0.1:9")[:2] == (75, "HubUnreachable")


def test_pickles_are_refused_unread(place: Place) -> None:
    place.server.put(f"{place.bucket}/pickles/config.json", json.dumps({}).encode())
    place.server.put(f"{place.bucket}/pickles/pytorch_model.bin", b"\x80\x04")

    assert place.fails(s3_uri=f"s3://{place.bucket}/pickles")[:2] == (65, "UnsafeFiles")


def test_a_public_bucket_needs_no_keys(place: Place) -> None:
    place.server.publish(place.bucket)

    assert place.warm_up(aws_access_key_id=None, aws_secret_access_key=None) == 0
