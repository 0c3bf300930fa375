"""What a warm-up has to bring, for each source that needs one."""

from dataclasses import dataclass

from llmservice_operator.desired.effective import Effective
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from llmservice_operator.schema.references import SecretKeyReference, SecretReference
from llmservice_operator.schema.source import ClaimSource, HttpSource, HuggingFaceSource, ImageSource, S3Source


@dataclass(frozen=True)
class Download:
    """A model somewhere else."""

    title: str
    """The model with its revision, for messages."""
    key: dict[str, str]
    """Everything in the source that decides which bytes come."""
    environment: dict[str, str]
    """What the warm-up has to know of the source."""
    secrets: list[Manifest]
    """Variables of the warm-up that come from Secrets, as entries of a container's `env`."""


def download(llmservice: LLMService, values: Effective) -> Download | None:
    """Return what the warm-up of `llmservice` has to bring; None for a source that pods mount as it is."""
    match llmservice.spec.model.source.one:
        case HuggingFaceSource() as hub:
            return _from_hub(hub, values)
        case HttpSource() as http:
            return _from_web(http, values)
        case S3Source() as s3:
            return _from_bucket(s3)
        case ClaimSource() | ImageSource():
            return None


def _from_hub(hub: HuggingFaceSource, values: Effective) -> Download:
    return Download(
        title=f"{hub.repo} at {hub.revision}",
        key={"endpoint": values.endpoint, "repo": hub.repo, "revision": hub.revision},
        environment={
            "LLMSERVICE_HUB_ENDPOINT": values.endpoint,
            "LLMSERVICE_HUB_REPO": hub.repo,
            "LLMSERVICE_HUB_REVISION": hub.revision,
        },
        secrets=_token("HUGGING_FACE_HUB_TOKEN", hub.token_secret_ref),
    )


def _from_web(http: HttpSource, values: Effective) -> Download:
    return Download(
        title=http.ref,
        # Wherever it comes from.
        key={"sha256": http.sha256},
        environment={
            "LLMSERVICE_HTTP_URL": http.url,
            "LLMSERVICE_HTTP_SHA256": http.sha256,
            "LLMSERVICE_ALLOWED_ENDPOINTS": ",".join(values.allowed_endpoints),
        },
        secrets=_token("LLMSERVICE_HTTP_TOKEN", http.token_secret_ref),
    )


def _from_bucket(s3: S3Source) -> Download:
    return Download(
        title=s3.ref,
        key={"endpoint": s3.address, "uri": s3.ref},
        environment={
            "LLMSERVICE_S3_URI": s3.ref,
            "LLMSERVICE_S3_ENDPOINT": s3.address,
            "LLMSERVICE_S3_REGION": s3.region,
        },
        secrets=_keys(s3.credentials_secret_ref),
    )


def _token(variable: str, reference: SecretKeyReference | None) -> list[Manifest]:
    return [] if reference is None else [_variable(variable, reference.name, reference.key)]


def _keys(reference: SecretReference | None) -> list[Manifest]:
    """Return the variables that every client of S3 reads; only temporary keys have the third."""
    if reference is None:
        return []
    needed = [_variable(name, reference.name, name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    return [*needed, _variable("AWS_SESSION_TOKEN", reference.name, "AWS_SESSION_TOKEN", optional=True)]


def _variable(variable: str, secret: str, key: str, *, optional: bool = False) -> Manifest:
    reference: Manifest = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}
