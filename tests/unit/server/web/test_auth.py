"""API keys: row H17, tenants, and reloading."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from inference_server.web.auth import ApiKeys, AuthSecretInvalid
from tests.support.model_server import RunningServer, running_server

KEY = "sk-0123456789abcdef"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return secret(tmp_path)


def secret(folder: Path) -> Path:
    """Return a Secret with two tenants, laid out in `folder` as the kubelet does."""
    data = folder / "..2026_01_01"
    data.mkdir()
    (data / "team-a").write_text(f"{KEY}\nsk-second\n")
    (data / "team-b").write_text("sk-other")
    (folder / "..data").symlink_to(data)
    for name in ("team-a", "team-b"):
        (folder / name).symlink_to(folder / "..data" / name)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    """One server with keys for all whom it does not let in."""
    async with running_server(api_keys_dir=secret(tmp_path_factory.mktemp("keys"))) as running:
        yield running


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"authorization": "Bearer sk-wrong"}, id="wrong key"),
        pytest.param({"authorization": f"Basic {KEY}"}, id="wrong scheme"),
        pytest.param({"authorization": "Bearer"}, id="empty key"),
        pytest.param({"authorization": "Bearer " + "x" * 2**20}, id="1 MiB key"),
        pytest.param({"authorization": "Bearer schlüssel-🔑".encode()}, id="non-ASCII key"),
        pytest.param({"x-api-key": KEY}, id="another header"),
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/generate",
        pytest.param("/no/such/path", id="H42 unknown"),
        pytest.param("//health", id="H43 two slashes"),
        pytest.param("/health/", id="H43 a slash at the end"),
        pytest.param("/HEALTH", id="H43 capitals"),
        pytest.param("/%2e/health", id="H43 an encoded dot"),
        pytest.param("/v1/%2e%2e/health", id="H43 a way up"),
        pytest.param("/metrics", id="H49 metrics"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_h17_without_a_valid_key_everything_is_a_401(
    locked: RunningServer, path: str, headers: dict[str, str | bytes]
) -> None:
    answer = await locked.http.get(path, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_each_key_opens_and_health_needs_none(folder: Path) -> None:
    async with running_server(api_keys_dir=folder) as server:
        for key in (KEY, "sk-second", "sk-other"):
            answer = await server.http.get("/v1/models", headers={"authorization": f"bearer {key}"})
            assert answer.status_code == 200
        assert (await server.http.get("/health")).status_code == 200


def test_the_tenant_is_the_name_of_the_entry(folder: Path) -> None:
    keys = ApiKeys(folder)
    assert [keys.tenant(key) for key in (KEY.encode(), b"sk-other", b"", b"team-a")] == ["team-a", "team-b", None, None]


def test_a_reload_takes_new_keys_and_closes_removed_ones_even_the_last(folder: Path) -> None:
    keys = ApiKeys(folder)
    (folder / "team-a").unlink()
    (folder / "team-c").write_text("sk-new\n")
    keys.reload()
    assert [keys.tenant(key) for key in (KEY.encode(), b"sk-other", b"sk-new")] == [None, "team-b", "team-c"]
    for name in ("team-b", "team-c"):
        (folder / name).unlink()
    keys.reload()
    assert [keys.tenant(key) for key in (b"sk-other", b"sk-new", b"")] == [None, None, None]


# C57
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param({}, "add an entry to the Secret of API keys", id="no entry"),
        pytest.param({"team-a": ""}, "give tenant 'team-a' a key", id="E05 empty key"),
        pytest.param({"team-a": " \n\n"}, "give tenant 'team-a' a key", id="blank lines"),
        pytest.param({"team-a": "", "team-b": KEY}, "give tenant 'team-a' a key", id="one of two empty"),
    ],
)
def test_a_secret_without_keys_is_refused(tmp_path: Path, content: dict[str, str], message: str) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(AuthSecretInvalid, match=message):
        ApiKeys(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuthSecretInvalid, match="mount the Secret"):
        ApiKeys(tmp_path / "absent")
