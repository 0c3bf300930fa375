"""Which place the settings name for the model."""

from __future__ import annotations

import re

from pydantic import SecretStr

from inference_server.cache.failures import WarmupFailure
from inference_server.cache.http_archive import HttpArchive
from inference_server.cache.hub import Hub
from inference_server.cache.remote import Remote
from inference_server.cache.s3 import S3
from inference_server.cache.sigv4 import Credentials
from inference_server.settings import Settings

_ONE_WORD = re.compile(r"[!-~]+")
"""What a token is made of; anything else cannot be sent in a header."""


def remote(settings: Settings) -> Remote:
    """Return the model's place.

    Raises:
        WarmupFailure: a token or key is given and empty, or cannot be one.
    """
    if settings.http_url is not None:
        assert settings.http_sha256 is not None, "the settings have both or none"
        token = _held("the server's token", settings.http_token)
        return HttpArchive(settings.http_url, settings.http_sha256, token, settings.endpoints)
    if settings.s3_uri is not None:
        return S3(settings.s3_uri, settings.s3_endpoint, settings.s3_region, _credentials(settings))
    token = _one_word("the hub's token", settings.hub_token)
    return Hub(settings.hub_endpoint, token, settings.hub_repo or settings.model_name, settings.hub_revision)


def _credentials(settings: Settings) -> Credentials | None:
    access_key_id = _held("AWS_ACCESS_KEY_ID", settings.aws_access_key_id)
    secret_access_key = _held("AWS_SECRET_ACCESS_KEY", settings.aws_secret_access_key)
    if access_key_id is None or secret_access_key is None:
        return None
    return Credentials(access_key_id, secret_access_key, _held("AWS_SESSION_TOKEN", settings.aws_session_token))


def _held(name: str, secret: SecretStr | None) -> str | None:
    return _one_word(name, None if secret is None else secret.get_secret_value().strip())


def _one_word(name: str, value: str | None) -> str | None:
    if value is not None and not _ONE_WORD.fullmatch(value):
        held = "more than one word" if value else "nothing"
        raise WarmupFailure("SecretKeyInvalid", f"put {name} alone into the Secret: the key holds {held}")
    return value
