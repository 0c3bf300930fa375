import pytest

from inference_server.cache.failures import WarmupFailure
from inference_server.cache.listing import Listing, RemoteFile, metadata_files, weight_files

MODEL = {"config.json": 600, "tokenizer.json": 20_000, "model.safetensors": 10**9}
SHARDED = {"config.json": 600, "tokenizer.json": 20_000, "model.safetensors.index.json": 900, "a.safetensors": 10**9}


def listing(sizes: dict[str, int]) -> Listing:
    return Listing("acme/tiny", "c0ffee", tuple(RemoteFile(name, size) for name, size in sizes.items()))


def names(files: list[RemoteFile]) -> list[str]:
    return [file.name for file in files]


def test_the_config_comes_first_and_nothing_but_what_is_read() -> None:
    found = metadata_files(listing({"README.md": 5, "tokenizer.json": 9, "tf_model.h5": 7, **MODEL}))

    assert names(found) == ["config.json", "tokenizer.json"]


def test_the_weights_are_one_file_or_the_shards_of_the_index() -> None:
    assert names(weight_files(listing({**MODEL, "copy.safetensors": 5}), None)) == ["model.safetensors"]
    assert names(weight_files(listing({**SHARDED, "b.safetensors": 5}), ["a.safetensors"])) == ["a.safetensors"]


@pytest.mark.parametrize(
    ("files", "reason", "message"),
    [
        pytest.param({**MODEL, "../config.json": 5}, "UnsafeFiles", "leads out of its folder", id="M15 parent"),
        pytest.param({**MODEL, "/etc/passwd": 5}, "UnsafeFiles", "leads out of its folder", id="M15 absolute"),
        pytest.param({**MODEL, "a\\..\\b": 5}, "UnsafeFiles", "leads out of its folder", id="M15 backslash"),
        pytest.param({**MODEL, "a\nb": 5}, "UnsafeFiles", "control characters", id="M16 line break"),
        pytest.param({"config.json": 5, "pytorch_model.bin": 5}, "UnsafeFiles", "nothing was downloaded", id="M01"),
        pytest.param({"config.json": 5, "model.gguf": 5}, "ModelUnsupported", "only GGUF", id="M19"),
        pytest.param(
            {"adapter_config.json": 5, "adapter_model.bin": 5}, "ModelUnsupported", "is an adapter", id="M20 adapter"
        ),
        pytest.param({"README.md": 5}, "ModelInvalid", "has no model.safetensors", id="no weights"),
        pytest.param({"model.safetensors": 5, "tokenizer.json": 5}, "ModelInvalid", "no config.json", id="M09 missing"),
        pytest.param({**MODEL, "config.json": 100 << 20}, "ModelInvalid", "not a real one", id="M09 100 MiB"),
        pytest.param({**MODEL, "tokenizer.json": 1 << 30}, "ModelInvalid", "not a real one", id="M13 tokenizer"),
        pytest.param(
            {**MODEL, **{f"{i}.txt": 1 for i in range(20_001)}}, "ModelInvalid", "has 20004 files", id="too many files"
        ),
    ],
)
def test_a_repository_is_refused_by_its_list_of_files(files: dict[str, int], reason: str, message: str) -> None:
    with pytest.raises(WarmupFailure, match=message) as failure:
        metadata_files(listing(files))

    assert failure.value.reason == reason
    assert failure.value.exit_code == 65


def test_m07_a_shard_of_the_index_that_is_not_listed_is_named() -> None:
    with pytest.raises(WarmupFailure, match=r"b\.safetensors, which model\.safetensors\.index\.json names") as failure:
        weight_files(listing(SHARDED), ["a.safetensors", "b.safetensors"])

    assert failure.value.reason == "ModelInvalid"
