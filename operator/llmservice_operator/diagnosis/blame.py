"""Whose fault it is that a revision does not come up: its own, or that of what surrounds it.

A revision that is at fault is taken back. What surrounds it (a registry, a Secret, a quota, a node) is waited for: the
revision before would fail there too, and a change that was taken back does not come again by itself.
"""

import re

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.conditions import Reason
from llmservice_operator.diagnosis import pods
from llmservice_operator.diagnosis.deployments import is_past_deadline, live_revision
from llmservice_operator.diagnosis.trouble import Trouble
from llmservice_operator.manifest import Manifest, is_true

_OWN = frozenset(
    {
        Reason.CRASH_LOOP,
        Reason.OUT_OF_MEMORY,
        Reason.ENGINE_FAILED,
        Reason.MODEL_INVALID,
        Reason.MODEL_UNSUPPORTED,
        Reason.CONTEXT_TOO_LONG,
        Reason.QUANTIZATION_CONFLICT,
        Reason.PROMPT_FAILED,
        Reason.PROMPT_TIMED_OUT,
    }
)
_NO_SUCH_IMAGE = re.compile(r"not found|manifest unknown|does not exist|couldn't parse image|invalid reference format")
"""What registries and the kubelet say of an image that is not there, unlike one that cannot be reached."""


def own_fault(children: Children, revision: str) -> Trouble | None:
    """Return what is wrong with `revision` itself, or None while it may still come up."""
    mine = [pod for pod in pods.server_pods(children) if pods.revision(pod) == revision]
    found = [pods.trouble(pod, names.SERVER_CONTAINER, children.events) for pod in mine]
    troubles = [trouble for trouble in found if trouble is not None]
    own = next((trouble for trouble in troubles if _is_own(trouble)), None)
    if own is not None or troubles or not mine:
        return own
    return _lateness(children.deployment, revision) if all(pods.is_scheduled(pod) for pod in mine) else None


def _lateness(deployment: Manifest | None, revision: str) -> Trouble | None:
    """Return that nothing holds up a revision's pods and they still are not ready in time."""
    if deployment is None or live_revision(deployment) != revision or not is_past_deadline(deployment):
        return None
    if is_true(deployment, "ReplicaFailure"):
        return None
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return Trouble(Reason.REPLICAS_UNAVAILABLE, f"Look at the log of the server: it was not ready within {seconds} s")


def _is_own(trouble: Trouble) -> bool:
    if trouble.reason is Reason.IMAGE_PULL_FAILED:
        return _NO_SUCH_IMAGE.search(trouble.message) is not None
    return trouble.reason in _OWN and trouble.blocks
