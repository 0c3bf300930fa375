"""What a Deployment says of its rollout."""

from llmservice_operator import names
from llmservice_operator.manifest import Manifest, condition


def live_revision(deployment: Manifest | None) -> str | None:
    """Return the revision of a live Deployment's template."""
    labels = (deployment or {}).get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {})
    revision: str | None = labels.get(names.REVISION_LABEL)
    return revision


def is_observed(deployment: Manifest) -> bool:
    """Whether the Deployment's controller has seen what was applied last, so that its status is about that."""
    observed: int = deployment.get("status", {}).get("observedGeneration", 0)
    return bool(observed >= deployment["metadata"]["generation"])


def is_past_deadline(deployment: Manifest) -> bool:
    """Whether the Deployment's controller has given up waiting for the template that it was given last."""
    progressing = condition(deployment, "Progressing")
    is_late = progressing.get("status") == "False" and progressing.get("reason") == "ProgressDeadlineExceeded"
    return is_late and is_observed(deployment)
