"""The warm-up against a hub on loopback: what it fetches, what it refuses, and what it says.

Without quantization, so that nothing imports torch; the quantizing child has a test of its own.
"""

import fcntl
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from inference_server.cache import volume
from inference_server.checkpoint.shape import model_shape
from tests.support.hub.faults import Fault, Kind
from tests.support.hub.server import Hub, running
from tests.support.models import write_checkpoint, write_json
from tests.support.warmup import Cache

REPO = "acme/tiny"
SHARD = "*/model-00002-of-00003.safetensors"


@dataclass
class Place(Cache):
    """A hub with one model, and an empty cache."""

    hub: Hub = field(kw_only=True)
    model: Path = field(kw_only=True)

    @property
    def endpoint(self) -> str:
        return str(self.given["hub_endpoint"])

    def downloads(self) -> list[str]:
        return [request.path.rpartition("/")[2] for request in self.hub.requests if "/resolve/" in request.path]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("LLMSERVICE_TERMINATION_LOG", str(tmp_path / "message"))
    monkeypatch.setattr("inference_server.cache.hub.RESOLVE_WAITS_SECONDS", (0.01,))
    monkeypatch.setattr(volume, "LOCK_POLL_SECONDS", 0.01)
    model = write_checkpoint(tmp_path / "hub" / REPO, shards=3)
    hub = Hub(tmp_path / "hub")
    with running(hub) as endpoint:
        yield Place(tmp_path, {"model_name": REPO, "hub_endpoint": endpoint}, hub=hub, model=model)


def test_a_model_is_downloaded_whole_and_byte_for_byte(place: Place) -> None:
    assert place.warm_up() == 0

    verdict = place.said["verdict"]
    assert (verdict["outcome"], verdict["quantization"]) == ("Downloaded", "none")
    assert verdict["path"].startswith("models/")
    assert verdict["path"].endswith(verdict["commit"])
    for file in place.model.iterdir():
        assert (place.served() / file.name).read_bytes() == file.read_bytes()


def test_the_verdict_says_what_decides_how_much_memory_the_model_needs(place: Place) -> None:
    place.warm_up()

    shape = model_shape(place.model)
    assert shape is not None
    assert place.said["verdict"]["shape"] == asdict(shape)


def test_the_digest_is_that_of_the_sorted_list_of_files(place: Place) -> None:
    place.warm_up()

    listing = subprocess.run("sha256sum * | LC_ALL=C sort | sha256sum", shell=True, cwd=place.model, stdout=-1)
    assert place.said["verdict"]["digest"] == f"sha256:{listing.stdout.decode().split()[0]}"


def test_a_second_warm_up_finds_everything_and_downloads_nothing(place: Place) -> None:
    place.warm_up()
    first = place.said["verdict"]
    place.hub.requests.clear()

    assert place.warm_up() == 0
    assert place.said["verdict"] == {**first, "outcome": "AlreadyPresent"}
    assert place.downloads() == []


def test_a_new_commit_is_downloaded_beside_the_old_one(place: Place) -> None:
    place.warm_up()
    old = place.served()
    (place.model / "generation_config.json").write_text("{}")

    place.warm_up()

    assert place.said["verdict"]["outcome"] == "Downloaded"
    assert place.served() != old
    assert (old / "config.json").is_file()


# C06
def test_a_pinned_commit_is_had_by_its_name(place: Place) -> None:
    place.warm_up()
    commit = place.said["verdict"]["commit"]
    place.refill()

    place.warm_up(hub_revision=commit)

    assert place.said["verdict"]["commit"] == commit


def test_only_what_a_serving_pod_reads_is_downloaded(place: Place) -> None:
    for name in ("README.md", "pytorch_model.bin", "model.gguf", "consolidated.safetensors", "modeling_tiny.py"):
        (place.model / name).write_bytes(b"not wanted")
    (place.model / "original").mkdir()
    (place.model / "original" / "model.safetensors").write_bytes(b"a duplicate")

    assert place.warm_up() == 0
    assert {path.name for path in place.served().iterdir()} == {
        volume.MANIFEST,
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "model.safetensors.index.json",
        *(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)),
    }


def test_files_can_be_read_by_any_user(place: Place) -> None:
    place.warm_up()

    assert {path.stat().st_mode & 0o777 for path in place.served().iterdir()} == {0o644}
    assert place.served().stat().st_mode & 0o777 == 0o755


# What is refused before a single file is downloaded.


def test_m01_a_repository_with_pickles_only_is_refused_unread(place: Place) -> None:
    for file in place.model.glob("model*"):
        file.unlink()
    (place.model / "pytorch_model.bin").write_bytes(b"\x80\x04")

    assert place.fails()[:2] == (65, "UnsafeFiles")
    assert place.downloads() == []


@pytest.mark.parametrize("name", ["bad\nname.json", "bad\x1b[31m.json", "bad\u202egnp.exe"])
def test_m16_control_characters_in_names_are_refused_unread(name: str, place: Place) -> None:
    (place.model / name).write_text("{}")

    assert place.fails()[:2] == (65, "UnsafeFiles")
    assert place.downloads() == []


def test_m09_a_config_of_100_mib_is_refused_unread(place: Place) -> None:
    with (place.model / "config.json").open("r+b") as config:
        config.truncate(100 << 20)

    code, reason, message = place.fails()

    assert (code, reason) == (65, "ModelInvalid")
    assert "config.json" in message
    assert place.downloads() == []


def test_m09_a_missing_config_is_refused_unread(place: Place) -> None:
    (place.model / "config.json").unlink()

    assert place.fails()[:2] == (65, "ModelInvalid")
    assert place.downloads() == []


def test_m07_a_shard_that_is_missing_is_found_out_before_the_others_are_downloaded(place: Place) -> None:
    (place.model / "model-00002-of-00003.safetensors").unlink()

    code, reason, message = place.fails()

    assert (code, reason) == (65, "ModelInvalid")
    assert "model-00002-of-00003.safetensors" in message
    assert not any(name.endswith(".safetensors") for name in place.downloads())


# What is refused for its config, before the weights are downloaded.


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"model_type": "unheard_of"}, "ModelUnsupported", id="M11 unknown architecture"),
        pytest.param({"num_hidden_layers": 10**9}, "ModelInvalid", id="M12 absurd sizes"),
        pytest.param({"quantization_config": {"quant_method": "awq"}}, "ModelUnsupported", id="foreign quantization"),
        pytest.param(
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
            "QuantizationConflict",
            id="M25 stored in another quantization",
        ),
    ],
)
def test_a_config_that_cannot_be_served_spares_the_download(change: dict[str, Any], reason: str, place: Place) -> None:
    write_json(place.model / "config.json", json.loads((place.model / "config.json").read_text()) | change)

    assert place.fails()[:2] == (65, reason)
    assert not any(name.endswith(".safetensors") for name in place.downloads())


def test_m09_an_invalid_config_is_refused(place: Place) -> None:
    (place.model / "config.json").write_text("{")

    assert place.fails()[:2] == (65, "ModelInvalid")


def test_m10_repository_code_is_neither_downloaded_nor_referred_to(place: Place) -> None:
    config = json.loads((place.model / "config.json").read_text())
    write_json(place.model / "config.json", config | {"auto_map": {"AutoModelForCausalLM": "canary.Canary"}})
    (place.model / "canary.py").write_text("raise SystemExit('repository code was run')")

    assert place.warm_up() == 0
    assert not (place.served() / "canary.py").exists()
    assert json.loads((place.served() / "config.json").read_text()) == config


# What goes wrong on the way.


def test_m06_a_truncated_shard_is_downloaded_once_more(place: Place) -> None:
    place.hub.faults.arm(Fault("truncated", SHARD, times=1))

    assert place.warm_up() == 0
    assert place.downloads().count("model-00002-of-00003.safetensors") == 2


def test_m06_a_shard_that_stays_truncated_fails_and_never_shows_up_as_a_model(place: Place) -> None:
    place.hub.faults.arm(Fault("truncated", SHARD))

    assert place.fails()[:2] == (75, "DigestMismatch")
    assert list(place.folder.glob("models/*/[!.]*")) == []


def test_m08_a_changed_byte_is_downloaded_once_more_and_then_refused(place: Place) -> None:
    place.hub.faults.arm(Fault("corrupt", SHARD))

    code, reason, message = place.fails()

    assert (code, reason) == (75, "DigestMismatch")
    assert "model-00002-of-00003.safetensors" in message
    assert place.downloads().count("model-00002-of-00003.safetensors") == 2
    assert list(place.folder.glob("models/*/.*.partial/model-00002*")) == []


def test_m08_small_files_are_verified_too(place: Place) -> None:
    place.hub.faults.arm(Fault("corrupt", "*/tokenizer.json"))

    assert place.fails()[:2] == (75, "DigestMismatch")


def test_m22_a_later_run_takes_up_what_a_crash_left(place: Place) -> None:
    place.hub.faults.arm(Fault("truncated", "*/model-00003-of-00003.safetensors"))
    place.warm_up()
    partial = next(place.folder.glob("models/*/.*.partial"))
    whole = (place.model / "model-00003-of-00003.safetensors").read_bytes()
    (partial / "model-00003-of-00003.safetensors.incomplete").write_bytes(whole[:1000])
    place.hub.faults.clear()
    place.hub.requests.clear()

    assert place.warm_up() == 0
    assert place.downloads() == ["model-00003-of-00003.safetensors"]
    assert place.hub.requests[-1].range == "bytes=1000-"


def test_m22_a_partial_file_with_wrong_bytes_is_downloaded_anew(place: Place) -> None:
    place.hub.faults.arm(Fault("truncated", SHARD))
    place.warm_up()
    partial = next(place.folder.glob("models/*/.*.partial"))
    (partial / "model-00002-of-00003.safetensors.incomplete").write_bytes(b"garbage")
    place.hub.faults.clear()

    assert place.warm_up() == 0
    shard = "model-00002-of-00003.safetensors"
    assert (place.served() / shard).read_bytes() == (place.model / shard).read_bytes()


def test_a_damaged_model_in_the_cache_is_not_taken_for_present(place: Place) -> None:
    place.warm_up()
    (place.served() / "model-00001-of-00003.safetensors").write_bytes(b"cut")

    assert place.warm_up() == 0
    assert place.said["verdict"]["outcome"] == "Downloaded"
    assert place.warm_up() == 0
    assert place.said["verdict"]["outcome"] == "AlreadyPresent"


@pytest.mark.parametrize(
    ("kind", "pattern", "reason", "code"),
    [
        pytest.param("throttled", "/api/*", "Throttled", 75, id="throttled"),
        pytest.param("forbidden", "/api/*", "AccessDenied", 65, id="forbidden"),
        pytest.param("unavailable", "/api/*", "HubUnreachable", 75, id="unavailable"),
        pytest.param("unavailable", "*/resolve/*", "HubUnreachable", 75, id="files unavailable"),
        pytest.param("not-found", "*/resolve/*", "ModelInvalid", 65, id="a listed file is gone"),
    ],
)
def test_what_the_hub_answers_becomes_a_reason(kind: Kind, pattern: str, reason: str, code: int, place: Place) -> None:
    place.hub.faults.arm(Fault(kind, pattern))

    assert place.fails()[:2] == (code, reason)
    assert place.state.document()["failure"]["reason"] == reason


def test_a_hub_that_stumbles_once_is_asked_again(place: Place) -> None:
    place.hub.faults.arm(Fault("unavailable", "/api/*", times=1))

    assert place.warm_up() == 0


# C07
def test_a_model_or_revision_that_is_not_there_is_named(place: Place) -> None:
    code, reason, message = place.fails(hub_repo="acme/none")
    assert (code, reason) == (65, "ModelNotFound")
    assert "acme/none" in message

    code, reason, message = place.fails(hub_revision="v9")
    assert (code, reason) == (65, "RevisionNotFound")
    assert "'v9'" in message


def test_nobody_listening_is_a_hub_that_cannot_be_reached(place: Place) -> None:
    assert place.fails(hub_endpoint="http://127.0.0.1:9")[:2] == (75, "HubUnreachable")


# Tokens.


# C08, C10
def test_a_gated_model_needs_the_token_that_may_read_it(place: Place) -> None:
    place.hub.gated = {REPO: "hf_right"}

    code, reason, message = place.fails()
    assert (code, reason) == (65, "AccessDenied")
    assert "tokenSecretRef" in message
    code, reason, message = place.fails(hugging_face_hub_token="hf_wrong")
    assert (code, reason) == (65, "AccessDenied")
    assert "hf_wrong" not in message
    assert place.warm_up(hugging_face_hub_token="hf_right\n") == 0


# C10
@pytest.mark.parametrize("token", ["\n", "hf_right\nhf_other", "hf right", "hf_\x00right", "hf_r\u00efght"])
def test_what_is_no_token_is_refused_without_a_request(place: Place, token: str) -> None:
    code, reason, message = place.fails(hugging_face_hub_token=token)
    assert (code, reason) == (65, "SecretKeyInvalid")
    assert "hf_" not in message
    assert place.hub.requests == []


def test_the_token_does_not_follow_a_redirect_to_another_host(place: Place) -> None:
    cdn = Hub(place.hub.root)
    with running(cdn) as elsewhere:
        place.hub.cdn = elsewhere
        assert place.warm_up(hugging_face_hub_token="hf_secret") == 0

    assert {request.authorization for request in place.hub.requests} == {"Bearer hf_secret"}
    assert {request.authorization for request in cdn.requests} == {None}
    assert len(cdn.requests) == 3


# The volume.


def test_m21_too_little_space_is_said_before_the_weights_are_downloaded(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(place.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(total=2 << 30, free=1 << 20))

    code, reason, message = place.fails()

    assert (code, reason) == (75, "CacheFull")
    assert "1.0 MiB of 2.0 GiB are free" in message
    assert not any(name.endswith(".safetensors") for name in place.downloads())


def test_m21_a_disk_that_fills_up_on_the_way_is_a_full_cache_and_leaves_the_old_model(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.warm_up()
    old = place.served()
    (place.model / "generation_config.json").write_text("{}")

    # The real answer of a full disk, for every write of the transfer.
    full = Path("/dev/full")
    monkeypatch.setattr("inference_server.cache.download.partial_path", lambda folder, name: full)

    assert place.fails()[:2] == (75, "CacheFull")
    assert volume.read_manifest(old) is not None


def scarce(place: Place, monkeypatch: pytest.MonkeyPatch, garbage: Path) -> None:
    """Let the volume have room for the model once `garbage` is gone."""
    usage = shutil.disk_usage(place.folder)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage._replace(free=usage.free if not garbage.exists() else 1 << 10)
    )


def test_m21_what_nobody_needs_goes_where_a_model_finds_no_room(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.warm_up(cache_keep="")
    kept = place.served()
    abandoned = volume.partial_folder(kept.parent.with_name("0123456789abcdef") / ("a" * 40))
    abandoned.mkdir(parents=True)
    (abandoned / "model.safetensors.incomplete").write_bytes(b"half of it")
    (place.model / "generation_config.json").write_text("{}")
    scarce(place, monkeypatch, abandoned)

    assert place.warm_up(cache_keep=kept.relative_to(place.folder).as_posix()) == 0

    assert place.said["verdict"]["outcome"] == "Downloaded"
    assert volume.read_manifest(kept) is not None
    assert not abandoned.exists()


def test_m21_what_came_already_of_the_model_itself_stays(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    garbage = place.folder / "quantized/.0123456789abcdef.partial"
    garbage.mkdir(parents=True)
    (garbage / "model.safetensors").write_bytes(b"half of it")
    place.hub.faults.arm(Fault("forbidden", SHARD))
    assert place.warm_up(cache_keep="") != 0
    scarce(place, monkeypatch, garbage)
    place.hub.faults.clear()
    place.hub.requests.clear()

    assert place.warm_up(cache_keep="") == 0
    assert len([name for name in place.downloads() if name.endswith(".safetensors")]) == 2


@pytest.mark.parametrize("keep", [pytest.param(None, id="shared"), pytest.param("", id="filled by others too")])
def test_m21_nothing_is_removed_from_a_shared_cache(
    place: Place, monkeypatch: pytest.MonkeyPatch, keep: str | None
) -> None:
    place.warm_up()
    old = place.served()
    (place.model / "generation_config.json").write_text("{}")
    scarce(place, monkeypatch, old)

    assert place.fails(cache_keep=keep)[:2] == (75, "CacheFull")
    assert volume.read_manifest(old) is not None


def test_m21_nothing_is_removed_while_another_warm_up_relies_on_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.warm_up(cache_keep="")
    old = place.served()
    (place.model / "generation_config.json").write_text("{}")
    scarce(place, monkeypatch, old)

    with volume.occupied(place.folder):
        assert place.fails(cache_keep="")[:2] == (75, "CacheFull")
    assert volume.read_manifest(old) is not None
    assert place.warm_up(cache_keep="") == 0


def test_m23_a_second_warm_up_waits_for_the_first_and_shows_progress(place: Place) -> None:
    source = volume.source_folder(place.folder, place.endpoint, REPO)
    source.mkdir(parents=True)
    with (source / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=place.warm_up)
        second.start()
        while place.state.phase != "Downloading":
            assert second.is_alive()
        assert not any("/resolve/" in request.path for request in place.hub.requests)
    second.join(timeout=30)

    assert place.said["verdict"]["outcome"] == "Downloaded"


def test_progress_counts_bytes_up_to_the_total(place: Place) -> None:
    place.warm_up()

    progress = place.state.document()["progress"]
    assert progress["done"] == progress["total"] > 2_000_000
    assert progress["unit"] == "bytes"


# The whole program.


def test_nothing_of_torch_is_imported_when_the_model_is_there(place: Place) -> None:
    place.warm_up()
    code = (
        "import sys; from inference_server.settings import Settings; from inference_server.state import ServerState\n"
        "from inference_server.cache.warmup import finish\n"
        f"finish(Settings(model_name={REPO!r}, hub_endpoint={place.endpoint!r}, cache_dir={str(place.folder)!r}, "
        "quantization='none'), ServerState())\n"
        "print(sorted({'torch', 'transformers', 'fastapi'} & set(sys.modules)))"
    )

    output = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout

    assert place.said["verdict"]["outcome"] == "AlreadyPresent"
    assert output.splitlines()[-1] == "[]"


def test_the_quantized_checkpoint_is_written_once_and_whole(place: Place) -> None:
    assert place.warm_up(quantization="nf4") == 0

    verdict = place.said["verdict"]
    assert (verdict["outcome"], verdict["quantization"]) == ("Downloaded", "nf4")
    assert verdict["path"].startswith("quantized/")
    served = place.served()
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        path.name for path in served.iterdir()
    }
    assert json.loads((served / "config.json").read_text())["quantization_config"]["bnb_4bit_quant_type"] == "nf4"
    assert place.warm_up(quantization="auto") == 0
    assert place.said["verdict"] == {**verdict, "outcome": "AlreadyPresent"}
