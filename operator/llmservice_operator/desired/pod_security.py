"""What every pod of ours has in common: no privileges, no token, nothing writable but what it is given."""

from llmservice_operator import names
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService

USER_ID = 65532
"""The images' user, and the group that owns the files on a cache volume."""


def pod_security(llmservice: LLMService) -> Manifest:
    """Return the fields of a pod spec that make it fit Pod Security "restricted", and its account.

    Service links are off because a Service called `llmservice` would inject the variable LLMSERVICE_PORT, which is
    ours.
    """
    return {
        "serviceAccountName": names.service_account(llmservice.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def container_security() -> Manifest:
    """Return the security context of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def literal(value: str) -> str:
    """Return `value` such that the kubelet passes it on as it is: it would expand `$(NAME)` in env values and
    arguments.
    """
    return value.replace("$", "$$")
