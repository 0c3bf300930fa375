"""The scheduler's words about a pod that fits nowhere, mapped to a reason. The words themselves stay in the message."""

import re

from llmservice_operator.conditions import Reason
from llmservice_operator.diagnosis.trouble import Trouble, of_cause, printable
from llmservice_operator.manifest import Manifest, condition

_CAUSES = (
    (
        re.compile(r'persistentvolumeclaim "[^"]*" (not found|is being deleted)'),
        Reason.VOLUME_UNUSABLE,
        "Create the claim, or name another in the spec",
    ),
    (
        re.compile(r"unbound immediate PersistentVolumeClaims"),
        Reason.VOLUME_PENDING,
        "Wait for the volume, or look at the events of its PersistentVolumeClaim",
    ),
    (
        re.compile(r"Insufficient [a-z0-9.-]+/"),
        Reason.INSUFFICIENT_GPU,
        "Free a GPU, add a node that has one, or change spec.resources.gpu",
    ),
    (
        re.compile(r"Insufficient (cpu|memory|ephemeral-storage)|Too many pods"),
        Reason.INSUFFICIENT_RESOURCES,
        "Ask for less in spec.resources, or add a node",
    ),
    (
        re.compile(r"didn't match Pod's node affinity"),
        Reason.NO_MATCHING_NODE,
        "Change spec.scheduling.nodeSelector, or label a node",
    ),
    (
        re.compile(r"untolerated taint"),
        Reason.TAINT_NOT_TOLERATED,
        "Add to spec.scheduling.tolerations, or remove the taint",
    ),
)
"""First the cause that is rarest to pass by itself; a cluster with several kinds of nodes names several."""


def of_pod(pod: Manifest) -> Trouble | None:
    """Return why a pod has no node, or None when it has one or the scheduler has not spoken."""
    scheduled = condition(pod, "PodScheduled")
    return of_words(scheduled.get("message", "")) if scheduled.get("status") == "False" else None


def of_words(words: str) -> Trouble:
    """Return the trouble that the scheduler names."""
    # What preemption would bring is said after a second count of the nodes; the first sentence has the cause.
    said = printable(words).split(" preemption: ")[0]
    unknown = Trouble(Reason.UNSCHEDULABLE, f"Look at the nodes: {said or 'the scheduler gives no reason'}")
    return of_cause(said, _CAUSES) or unknown
