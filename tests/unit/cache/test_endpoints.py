import pytest

from inference_server.cache.endpoints import is_allowed

ENDPOINTS = ("https://models.example.com", "http://10.0.0.1:8000/public")


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example.com/a/b.tar?version=1",
        "https://MODELS.example.com:443/a",
        "http://10.0.0.1:8000/public/a.tar",
        "http://10.0.0.1:8000/public",
    ],
)
def test_what_lies_below_a_listed_address_is_allowed(url: str) -> None:
    assert is_allowed(url, ENDPOINTS)


@pytest.mark.parametrize(
    "url",
    [
        "http://models.example.com/a",
        "https://models.example.com:8443/a",
        "https://models.example.com.evil.example/a",
        "https://models.example.com@evil.example/a",
        "http://10.0.0.1:8000/publicity",
        "http://10.0.0.1:8000/public/../private",
        "http://10.0.0.1:8000/public/%2e%2e/private",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "https://models.example.com:99999/a",
        "https://[models.example.com/a",
    ],
)
def test_everything_else_is_not(url: str) -> None:
    assert not is_allowed(url, ENDPOINTS)
