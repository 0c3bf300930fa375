"""What a warm-up has to bring, for each source that needs one."""

from dataclasses import dataclass, field

from llmservice_operator.desired.effective import Effective
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from llmservice_operator.schema.references import SecretKeyReference
from llmservice_operator.schema.source import ClaimSource, HttpSource, HuggingFaceSource


@dataclass(frozen=True)
class Download:
    """A model somewhere else."""

    title: str
    """The model with its revision, for messages."""
    key: dict[str, str]
    """Everything in the source that decides which bytes come."""
    environment: dict[str, str]
    """What the warm-up has to know of the source."""
    secrets: dict[str, SecretKeyReference] = field(default_factory=dict)
    """Variables of the warm-up that come from Secrets."""

    def variables(self) -> list[Manifest]:
        """Return the secrets as entries of a container's `env`."""
        return [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": reference.name, "key": reference.key}}}
            for name, reference in self.secrets.items()
        ]


def download(llmservice: LLMService, values: Effective) -> Download | None:
    """Return what the warm-up of `llmservice` has to bring; None for a source that pods mount as it is."""
    match llmservice.spec.model.source.one:
        case HuggingFaceSource() as hub:
            return _from_hub(hub, values)
        case HttpSource() as http:
            return _from_web(http, values)
        case ClaimSource():
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
        secrets=_given(HUGGING_FACE_HUB_TOKEN=hub.token_secret_ref),
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
        secrets=_given(LLMSERVICE_HTTP_TOKEN=http.token_secret_ref),
    )


def _given(**references: SecretKeyReference | None) -> dict[str, SecretKeyReference]:
    return {name: reference for name, reference in references.items() if reference is not None}
