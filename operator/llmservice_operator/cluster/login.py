"""Where the API server is and who we are to it, by the client library's own loaders."""

import base64
import binascii
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration


async def load_configuration(kubeconfig: Path | None = None) -> Any:
    """Return the client library's configuration: of the given kubeconfig, else of the pod's service account, else
    $KUBECONFIG.

    Raises:
        kubernetes.aio.config.ConfigException: none of them is usable.
    """
    configuration = Configuration()
    if kubeconfig is not None:
        await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    elif "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(client_configuration=configuration)
    # Left to aiohttp, the environment and ~/.netrc are read for every request, each time in a thread.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.proxy = configuration.proxy or _proxy_from_environment(configuration.host)
    return configuration


def _proxy_from_environment(url: str) -> str | None:
    address = urlsplit(url)
    return None if proxy_bypass(address.netloc) else getproxies().get(address.scheme)


async def authorization(configuration: Any) -> str | None:
    """Return the Authorization header; the library reads a mounted token anew every minute."""
    for setting in (await configuration.auth_settings()).values():
        if setting["key"].lower() == "authorization" and setting["value"]:
            return str(setting["value"])
    return None


@dataclass(frozen=True)
class Credentials:
    """The same facts for kopf, which keeps a client of its own."""

    server: str
    ca_path: str | None
    insecure: bool
    certificate_path: str | None
    private_key_path: str | None
    token: str | None
    expiration: datetime | None


async def credentials(kubeconfig: Path | None = None) -> Credentials:
    """Return fresh credentials. Those with a token of known lifetime expire a minute before it, so that no watch meets
    a 401.
    """
    configuration = await load_configuration(kubeconfig)
    header = await authorization(configuration)
    token = header.split(" ", 1)[1].strip() if header else None
    return Credentials(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        token=token,
        expiration=_expiration(token) if token else None,
    )


def _expiration(token: str) -> datetime | None:
    """Return when to log in again, from the `exp` claim of a service account's token; None for what is no JWT."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return datetime.fromtimestamp(claims["exp"], tz=UTC) - timedelta(minutes=1)
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None
