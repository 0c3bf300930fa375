"""What S3 may answer and a server on loopback does not."""

from xml.etree import ElementTree

import pytest

from inference_server.cache.s3 import S3, _base_url
from inference_server.cache.transfer import Refusal


@pytest.mark.parametrize(
    ("endpoint", "bucket", "url"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "models", "https://models.s3.eu-west-1.amazonaws.com"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "models", "https://models.s3.cn-north-1.amazonaws.com.cn"),
        ("https://s3.eu-west-1.amazonaws.com", "my.models", "https://s3.eu-west-1.amazonaws.com/my.models"),
        ("http://minio.storage:9000", "models", "http://minio.storage:9000/models"),
        ("https://amazonaws.com.example", "models", "https://amazonaws.com.example/models"),
    ],
)
def test_a_bucket_is_a_path_where_it_has_no_host_of_its_own(endpoint: str, bucket: str, url: str) -> None:
    assert _base_url(endpoint, bucket) == url


@pytest.mark.parametrize(
    ("status", "headers", "code", "reason"),
    [
        (301, {"x-amz-bucket-region": "us-west-2"}, "PermanentRedirect", "ModelNotFound"),
        (400, {"x-amz-bucket-region": "us-west-2"}, "AuthorizationHeaderMalformed", "ModelNotFound"),
        (403, {"x-amz-bucket-region": "eu-west-1"}, "AccessDenied", "AccessDenied"),
        (403, {}, "InvalidAccessKeyId", "AccessDenied"),
        (503, {}, "SlowDown", "Throttled"),
        (429, {}, "", "Throttled"),
        (503, {}, "ServiceUnavailable", None),
        (500, {}, "InternalError", None),
    ],
)
def test_an_answer_of_s3_becomes_a_reason(status: int, headers: dict[str, str], code: str, reason: str | None) -> None:
    s3 = S3("s3://models/tiny", "https://s3.eu-west-1.amazonaws.com", "eu-west-1", None)
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode() if code else b"no XML"

    failure = s3._refused(Refusal(status, headers, body))

    assert (failure and failure.reason) == reason
    if status in (301, 400):
        assert "us-west-2" in str(failure)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("<Contents><Key>tiny/a+b</Key><ETag>1</ETag><Size>5</Size></Contents>", ["a+b"]),
        (
            "<EncodingType>url</EncodingType><Contents><Key>tiny/a+b%2B</Key><ETag>1</ETag><Size>5</Size></Contents>",
            ["a b+"],
        ),
        ("<Contents><Key>tiny/</Key><ETag>1</ETag><Size>0</Size></Contents>", []),
    ],
    ids=["plain", "encoded", "the folder itself"],
)
def test_names_are_read_as_the_server_says_it_writes_them(page: str, names: list[str]) -> None:
    s3 = S3("s3://models/tiny", "https://s3.eu-west-1.amazonaws.com", "eu-west-1", None)

    assert [file.name for file in s3._entries(ElementTree.fromstring(f"<Result>{page}</Result>"))] == names
