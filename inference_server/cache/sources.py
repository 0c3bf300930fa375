"""Which place the settings name for the model."""

from __future__ import annotations

from inference_server.cache.failures import WarmupFailure
from inference_server.cache.http_archive import HttpArchive
from inference_server.cache.hub import Hub
from inference_server.cache.remote import Remote
from inference_server.settings import Settings


def remote(settings: Settings) -> Remote:
    """Return the model's place.

    Raises:
        WarmupFailure: a token is given and empty.
    """
    if settings.http_url is not None:
        assert settings.http_sha256 is not None, "the settings have both or none"
        token = None if settings.http_token is None else settings.http_token.get_secret_value().strip()
        if token == "":
            raise WarmupFailure("SecretKeyInvalid", "put the server's token into the Secret: the key holds nothing")
        return HttpArchive(settings.http_url, settings.http_sha256, token, settings.endpoints)
    if settings.hub_token == "":
        raise WarmupFailure("SecretKeyInvalid", "put the hub's token into the Secret: the key holds nothing")
    repo = settings.hub_repo or settings.model_name
    return Hub(settings.hub_endpoint, settings.hub_token, repo, settings.hub_revision)
