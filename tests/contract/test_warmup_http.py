"""The warm-up with an archive behind a URL, on a server that resumes, redirects, asks for tokens and fails."""

import hashlib
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest

from inference_server.cache import transfer, volume
from tests.support.hub.faults import Fault, Kind
from tests.support.hub.server import Hub, running
from tests.support.models import write_checkpoint
from tests.support.warmup import Cache

REPO = "acme/archives"


@dataclass
class Place(Cache):
    """A web server with archives of one model, and an empty cache."""

    web: Hub = field(kw_only=True)
    model: Path = field(kw_only=True)
    endpoint: str = field(kw_only=True)

    def offer(self, archive: Path) -> None:
        """Have the next warm-ups ask for `archive`, which lies on the server."""
        self.given["http_url"] = f"{self.endpoint}/{REPO}/resolve/main/{archive.name}"
        self.given["http_sha256"] = hashlib.sha256(archive.read_bytes()).hexdigest()

    def archive(self, name: str = "tiny.tar", mode: str = "w", folder: str = "tiny") -> Path:
        """Put an archive of the model on the server and offer it."""
        path = self.web.root / REPO / name
        with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
            tar.add(self.model, folder)
        self.offer(path)
        return path

    @property
    def partial(self) -> Path:
        """Where the archive grows."""
        sha256 = self.given["http_sha256"]
        return volume.source_folder(self.folder, "sha256", sha256) / f".{sha256}.archive"

    def ranges(self) -> list[str | None]:
        return [request.range for request in self.web.requests]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("LLMSERVICE_TERMINATION_LOG", str(tmp_path / "message"))
    monkeypatch.setattr(transfer, "RETRY_WAITS_SECONDS", (0.01,))
    (tmp_path / "web" / REPO).mkdir(parents=True)
    model = write_checkpoint(tmp_path / "model", shards=2)
    web = Hub(tmp_path / "web")
    with running(web) as endpoint:
        yield Place(tmp_path, {"model_name": "tiny"}, web=web, model=model, endpoint=endpoint)


@pytest.mark.parametrize(
    ("name", "mode", "folder"),
    [
        pytest.param("tiny.tar", "w", "tiny", id="in a folder"),
        pytest.param("tiny.tar.gz", "w:gz", ".", id="compressed, without a folder"),
        pytest.param("tiny.gz", "w:gz", "./models/tiny", id="in a folder of a folder"),
    ],
)
def test_a_model_is_unpacked_byte_for_byte(name: str, mode: str, folder: str, place: Place) -> None:
    place.archive(name, mode, folder)

    assert place.warm_up() == 0

    verdict = place.said["verdict"]
    assert (verdict["outcome"], verdict["commit"]) == ("Downloaded", place.given["http_sha256"])
    for file in place.model.iterdir():
        assert (place.served() / file.name).read_bytes() == file.read_bytes()
    assert [path.name for path in place.served().parent.iterdir() if path != place.served()] == [".lock"]


def test_a_zip_archive_is_one_too(place: Place) -> None:
    path = place.web.root / REPO / "download"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in place.model.iterdir():
            zipped.write(file, f"tiny/{file.name}")
    place.offer(path)

    assert place.warm_up() == 0
    for file in place.model.iterdir():
        assert (place.served() / file.name).read_bytes() == file.read_bytes()


def test_the_digest_is_that_of_the_files_and_not_of_the_archive(place: Place) -> None:
    place.archive("tiny.tar.gz", "w:gz")
    place.warm_up()

    listing = subprocess.run("sha256sum * | LC_ALL=C sort | sha256sum", shell=True, cwd=place.model, stdout=-1)
    assert place.said["verdict"]["digest"] == f"sha256:{listing.stdout.decode().split()[0]}"


def test_a_second_warm_up_asks_nobody(place: Place) -> None:
    place.archive()
    place.warm_up()
    place.web.requests.clear()

    assert place.warm_up() == 0
    assert place.said["verdict"]["outcome"] == "AlreadyPresent"
    assert place.web.requests == []


def test_weights_are_never_read_into_memory_whole(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.archive()
    read_bytes = Path.read_bytes

    def small(path: Path) -> bytes:
        assert path.stat().st_size < 1 << 20, f"{path} was read whole"
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", small)

    assert place.warm_up() == 0


def test_nothing_but_what_a_replica_reads_is_unpacked(place: Place) -> None:
    for name in ("README.md", "modeling_tiny.py", "pytorch_model.bin"):
        (place.model / name).write_bytes(b"not wanted")
    place.archive()

    assert place.warm_up() == 0
    unwanted = {"README.md", "modeling_tiny.py", "pytorch_model.bin"}
    assert unwanted.isdisjoint(path.name for path in place.served().iterdir())


# What goes wrong on the way.


def test_a_broken_connection_is_taken_up_where_it_ended(place: Place) -> None:
    size = place.archive().stat().st_size
    place.web.faults.arm(Fault("cut", times=1))

    assert place.warm_up() == 0
    assert place.ranges() == [None, f"bytes={size // 2}-"]


def test_a_connection_that_breaks_again_and_again_is_taken_up_as_long_as_more_comes(place: Place) -> None:
    place.archive()
    place.web.faults.arm(Fault("cut", times=4))

    assert place.warm_up() == 0


def test_what_a_crash_left_is_taken_up_by_the_next_warm_up(place: Place) -> None:
    archive = place.archive()
    place.partial.parent.mkdir(parents=True)
    place.partial.write_bytes(archive.read_bytes()[:1000])

    assert place.warm_up() == 0
    assert place.ranges() == ["bytes=1000-"]


@pytest.mark.parametrize("left", [b"of another file", b"longer than the file" * 1_000_000])
def test_what_was_left_of_another_file_is_thrown_away(left: bytes, place: Place) -> None:
    place.archive()
    place.partial.parent.mkdir(parents=True)
    place.partial.write_bytes(left)

    assert place.warm_up() == 0


def test_a_file_that_changes_between_two_connections_is_fetched_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = place.archive()
    right = archive.read_bytes()
    archive.write_bytes(right[::-1])
    place.web.faults.arm(Fault("cut", times=1))
    monkeypatch.setattr("time.sleep", lambda _: archive.write_bytes(right))

    assert place.warm_up() == 0


def test_a_server_without_ranges_sends_the_whole_again(place: Place) -> None:
    archive = place.archive()
    place.partial.parent.mkdir(parents=True)
    place.partial.write_bytes(archive.read_bytes()[:1000])
    place.web.ranges = False

    assert place.warm_up() == 0
    assert place.ranges() == ["bytes=1000-"]


def test_another_sha256_is_refused_with_both_and_nothing_is_opened_or_kept(place: Place) -> None:
    found = hashlib.sha256(place.archive().read_bytes()).hexdigest()
    place.given["http_sha256"] = "ab" * 32

    code, reason, message = place.fails()

    assert (code, reason) == (75, "DigestMismatch")
    assert f"has {found}, not {'ab' * 32}" in message
    assert not place.partial.exists()
    assert list(place.folder.glob("models/*/[!.]*")) == []


def test_what_came_in_vain_is_not_downloaded_again_until_it_has_changed(place: Place) -> None:
    archive = place.archive()
    wanted = place.given["http_sha256"]
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    place.fails()
    place.web.faults.arm(Fault("cut"))

    assert place.fails()[1] == "DigestMismatch"

    place.web.faults.clear()
    place.archive()
    place.given["http_sha256"] = wanted
    assert place.warm_up() == 0


@pytest.mark.parametrize(
    ("kind", "reason", "code"),
    [
        ("not-found", "ModelNotFound", 65),
        ("forbidden", "AccessDenied", 65),
        ("throttled", "Throttled", 75),
        ("unavailable", "HubUnreachable", 75),
    ],
)
def test_what_the_server_answers_becomes_a_reason(kind: Kind, reason: str, code: int, place: Place) -> None:
    place.archive()
    place.given["http_url"] += "?signature=secret"
    place.web.faults.arm(Fault(kind))

    found_code, found_reason, message = place.fails()

    assert (found_code, found_reason) == (code, reason)
    assert "tiny.tar" in message
    assert "secret" not in message


def test_a_server_that_stumbles_once_is_asked_again(place: Place) -> None:
    place.archive()
    place.web.faults.arm(Fault("unavailable", times=1))

    assert place.warm_up() == 0


def test_nobody_listening_is_a_server_that_cannot_be_reached(place: Place) -> None:
    place.archive()

    assert place.fails(http_url="http://127.0.0.1:9/tiny.tar", allowed_endpoints="")[:2] == (75, "HubUnreachable")


# Where it may go, and with what.


def test_a_token_opens_what_is_gated_and_stays_with_its_server(place: Place) -> None:
    place.archive()
    place.web.gated = {REPO: "right"}
    assert place.fails()[1] == "AccessDenied"
    assert place.fails(http_token="wrong")[1] == "AccessDenied"
    cdn = Hub(place.web.root)
    with running(cdn) as elsewhere:
        place.web.cdn = elsewhere
        assert place.warm_up(http_token="right\n", allowed_endpoints=f"{place.endpoint},{elsewhere}") == 0

    assert [request.authorization for request in cdn.requests] == [None]


# C10
def test_an_empty_token_is_refused_without_a_request(place: Place) -> None:
    place.archive()

    assert place.fails(http_token="\n")[:2] == (65, "SecretKeyInvalid")
    assert place.web.requests == []


def test_a_redirect_off_the_list_is_not_followed(place: Place) -> None:
    place.archive()
    internal = Hub(place.web.root)
    with running(internal) as address:
        place.web.cdn = address
        code, reason, message = place.fails(allowed_endpoints=place.endpoint)

    assert (code, reason) == (65, "EndpointNotAllowed")
    assert address in message
    assert internal.requests == []


def test_a_url_off_the_list_is_not_asked(place: Place) -> None:
    place.archive()

    assert place.fails(allowed_endpoints="https://models.example.com")[1] == "EndpointNotAllowed"
    assert place.web.requests == []


# What is in the archive.


def test_a_link_is_refused_and_not_downloaded_again(place: Place) -> None:
    (place.model / "vocab.json").symlink_to("/etc/passwd")
    place.archive()

    code, reason, message = place.fails()

    assert (code, reason) == (65, "UnsafeFiles")
    assert "vocab.json" in message
    place.web.requests.clear()
    assert place.fails()[:2] == (65, "UnsafeFiles")
    assert place.web.requests == []


def test_what_is_no_archive_is_named(place: Place) -> None:
    path = place.web.root / REPO / "tiny.tar"
    path.write_bytes(b"<html>" * 1000)
    place.offer(path)

    code, reason, message = place.fails()

    assert (code, reason) == (65, "ModelInvalid")
    assert "tiny.tar" in message


def test_an_archive_that_is_cut_off_is_named(place: Place) -> None:
    path = place.archive("tiny.tar.gz", "w:gz")
    path.write_bytes(path.read_bytes()[:-5000])
    place.offer(path)

    assert place.fails()[:2] == (65, "ModelInvalid")


def test_an_archive_without_a_model_is_refused(place: Place) -> None:
    (place.model / "config.json").unlink()
    place.archive()

    assert place.fails()[:2] == (65, "ModelInvalid")


def test_a_bomb_is_refused_before_a_byte_is_unpacked(place: Place) -> None:
    path = place.web.root / REPO / "bomb.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        header = tarfile.TarInfo("config.json")
        header.size = 1 << 50
        tar.fileobj.write(header.tobuf())
        tar.addfile(tarfile.TarInfo("tokenizer.json"), BytesIO())
    place.offer(path)

    assert place.fails()[:2] == (75, "CacheFull")


def test_too_little_space_is_said_before_the_download_and_what_came_is_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = place.archive()
    usage = shutil.disk_usage(place.folder)
    with monkeypatch.context() as small:
        small.setattr(shutil, "disk_usage", lambda path: usage._replace(total=2 << 30, free=1 << 20))
        code, reason, message = place.fails()
        assert (code, reason) == (75, "CacheFull")
        assert str(archive.stat().st_size) in message

    assert place.warm_up() == 0


def test_progress_counts_what_is_unpacked(place: Place) -> None:
    place.archive()
    place.warm_up()

    document = place.state.document()
    assert document["phase"] == "Unpacking"
    assert document["progress"]["done"] == document["progress"]["total"] > 2_000_000
