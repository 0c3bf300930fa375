"""The operator's configuration file: what it means, and what is said about a mistake in it."""

from pathlib import Path
from typing import Any

import pytest

from llmservice_operator.settings import Settings, SettingsError, load, parse

MINIMAL: dict[str, Any] = {"images": {"server": "server:1"}, "profiles": {"nvidia": {}}}


def test_a_minimal_file_serves_the_public_hub_in_all_namespaces() -> None:
    settings = parse(MINIMAL)
    assert settings.watch_namespaces == []
    assert settings.allowed_endpoints == [settings.default_endpoint] == ["https://huggingface.co"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"profile": {}}, "profile: unknown key (did you mean profiles?)"),
        ({"profiles": {"nvidia": {"gpu": {"cout": 1}}}}, "profiles.nvidia.gpu.cout: unknown key (did you mean count?)"),
        ({"profiles": {"nvidia": {"maxBatchSize": 0}}}, "profiles.nvidia.maxBatchSize: "),
        ({"profiles": {"nvidia": {"cacheSize": "10XB"}}}, "profiles.nvidia.cacheSize: "),
        (
            {"profiles": {"nvidia": {"limits": {"memory": "24Mi"}}}},
            "profiles.nvidia: limits.memory is 24Mi, less than the 64Mi of allow.minMemory",
        ),
        ({"images": {}}, "images.server: required"),
        ({"defaultProfile": "cpu"}, "defaultProfile names 'cpu', but profiles has: nvidia"),
        ({"defaultEndpoint": "http://hub"}, "defaultEndpoint http://hub must stand in allowedEndpoints too"),
        ({"allowedEndpoints": ["file:///etc"]}, "allowedEndpoints.0: "),
        ({"allowedEndpoints": ["http://hub:99999"]}, "the port of http://hub:99999 is no number from 1 to 65535"),
    ],
)
def test_a_mistake_is_told_with_its_key(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse({**MINIMAL, **change})
    assert complaint in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse({"profiles": {"nvidia": {"a": 1, "b": 2}}})
    assert len(str(caught.value).splitlines()) == 3


def test_the_profile_called_default_is_the_default_one() -> None:
    settings = parse({**MINIMAL, "profiles": {"nvidia": {}, "cpu": {"maxTokens": 9}}, "defaultProfile": "cpu"})
    assert settings.profile("default") is settings.profile("cpu")
    assert settings.profile("other") is None


def test_a_profile_may_bring_its_own_image() -> None:
    settings = parse({**MINIMAL, "profiles": {"nvidia": {}, "fake": {"image": "gateway:1"}}})
    assert [settings.image(profile) for profile in settings.profiles.values()] == ["server:1", "gateway:1"]


def test_whole_numbers_are_quantities() -> None:
    profile = parse({**MINIMAL, "profiles": {"nvidia": {"requests": {"cpu": 2}}}}).profiles["nvidia"]
    assert profile.requests == {"cpu": "2"}


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("images: {server: server:1}\nprofiles:\n  nvidia:\n    warmup:\n")
    assert isinstance(load(path), Settings)


@pytest.mark.parametrize("content", [None, "a: [", "- a", ""], ids=["no file", "no YAML", "a list", "empty"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=r"config\.yaml"):
        load(path)
