"""By which way the API server is reached."""

import json
from pathlib import Path

import pytest

from llmservice_operator.cluster import login

SERVER = "https://api.example.com:6443"


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": SERVER}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
        "current-context": "it",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(content))
    return tmp_path / "kubeconfig"


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"https_proxy": "http://proxy:3128"}, "http://proxy:3128", id="a proxy"),
        pytest.param({"https_proxy": "http://proxy:3128", "no_proxy": ".example.com"}, None, id="not for this host"),
        pytest.param({"http_proxy": "http://proxy:3128"}, None, id="not for https"),
    ],
)
async def test_the_environments_proxy_is_asked_for_once(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], proxy: str | None
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    configuration = await login.load_configuration(kubeconfig)
    assert configuration.proxy == proxy
    assert configuration.client_session_kwargs == {"trust_env": False}
