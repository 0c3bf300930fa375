"""The service account of the pods: one per LLMService, without rights and without a token."""

from llmservice_operator import names
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService


def service_account(llmservice: LLMService) -> Manifest:
    """Return the account that the pods run as.

    The namespace's `default` account is everybody's: what somebody grants it, or mounts through it, would reach a
    process that loads foreign models.
    """
    metadata = names.metadata(llmservice, name=names.service_account(llmservice.name))
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "automountServiceAccountToken": False}
