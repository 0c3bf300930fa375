"""The pod of a Job that works on the cache volume, whatever it does there."""

from collections.abc import Sequence
from typing import Final

from llmservice_operator.children import Children
from llmservice_operator.desired import model_facts
from llmservice_operator.desired.cached_model import CachedModel
from llmservice_operator.desired.effective import Effective
from llmservice_operator.desired.placement import placement
from llmservice_operator.desired.pod_security import container_security, pod_security
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService

KEEP: Final = "LLMSERVICE_CACHE_KEEP"
"""The variable with the folders of the volume that are needed."""


def pod_failure_policy(container: str, incurable: Sequence[int]) -> Manifest:
    """Return that a Job has failed with one of these exit codes, and that an eviction is no failure."""
    exit_codes = {"containerName": container, "operator": "In", "values": list(incurable)}
    return {
        "rules": [
            {"action": "FailJob", "onExitCodes": exit_codes},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]
    }


def cache_pod(
    llmservice: LLMService, values: Effective, cache: CachedModel, children: Children, container: Manifest
) -> Manifest:
    """Return the spec of a pod that may write to the volume, where the serving pods run; `container` has what is its
    own.
    """
    whole = {
        **container,
        "imagePullPolicy": values.profile.image_pull_policy,
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "cache", "mountPath": model_facts.CACHE_MOUNT},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a path inside the container
        ],
    }
    spec: Manifest = {
        **pod_security(llmservice),
        **placement(values, children, cache.claim),
        "restartPolicy": "Never",
        "containers": [whole],
        "volumes": [
            {"name": "cache", "persistentVolumeClaim": {"claimName": cache.claim}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    if values.profile.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in values.profile.image_pull_secrets]
    if values.priority_class_name:
        spec["priorityClassName"] = values.priority_class_name
    return spec
