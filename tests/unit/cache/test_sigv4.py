"""The examples that AWS publishes for the signature's header form."""

from datetime import UTC, datetime

import pytest

from inference_server.cache.sigv4 import Credentials, query, signed

CREDENTIALS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
NOW = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "https://examplebucket.s3.amazonaws.com"


@pytest.mark.parametrize(
    ("url", "headers", "signature"),
    [
        pytest.param(
            f"{HOST}/test.txt",
            {"Range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            id="get an object",
        ),
        pytest.param(
            f"{HOST}/?{query({'prefix': 'J', 'max-keys': '2'})}",
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            id="list objects",
        ),
    ],
)
def test_a_request_is_signed_as_in_the_published_example(url: str, headers: dict[str, str], signature: str) -> None:
    found = signed(url, CREDENTIALS, "us-east-1", NOW, headers=headers)["Authorization"]

    assert found.startswith("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,")
    assert found.endswith(f"Signature={signature}")


def test_a_session_token_is_sent_and_signed() -> None:
    headers = signed(f"{HOST}/", Credentials("id", "secret", "token"), "us-east-1", NOW)

    assert headers["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in headers["Authorization"]


def test_a_query_is_sorted_and_encoded_whole() -> None:
    assert query({"prefix": "a b/c+d", "delimiter": "/"}) == "delimiter=%2F&prefix=a%20b%2Fc%2Bd"


def test_no_secret_is_shown() -> None:
    assert "EXAMPLEKEY" not in repr(CREDENTIALS)
