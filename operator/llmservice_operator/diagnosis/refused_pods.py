"""Why the API server refuses the pods of a Deployment or a Job: the words of quota, Pod Security and classes that are
not there.
"""

import re

from llmservice_operator.conditions import Reason
from llmservice_operator.diagnosis.events import latest_words
from llmservice_operator.diagnosis.trouble import Trouble, of_cause, printable
from llmservice_operator.manifest import Manifest, condition, is_true

_CAUSES = (
    (
        re.compile(r"exceeded quota"),
        Reason.QUOTA_EXCEEDED,
        "Free or raise the namespace's quota, or ask for less in spec.resources",
    ),
    (
        re.compile(r"violates PodSecurity"),
        Reason.POD_SECURITY_DENIED,
        "Ask the administrator: Pod Security of the namespace refuses the pods",
    ),
    (
        re.compile(r"no PriorityClass with name"),
        Reason.PRIORITY_CLASS_NOT_FOUND,
        "Change spec.scheduling.priorityClassName, or create the class",
    ),
    (
        re.compile(r"RuntimeClass"),
        Reason.RUNTIME_CLASS_NOT_FOUND,
        "Change spec.scheduling.runtimeClassName, or create the class",
    ),
)
_POD_NAME = re.compile(r'\b(pods?) "[a-z0-9.-]+"')
"""Every attempt draws another name, which would make another message of the same fact."""


def of_words(words: str) -> Trouble:
    """Return the trouble behind the API server's refusal to create a pod."""
    said = _POD_NAME.sub(r"\1", printable(words)).removeprefix("Error creating: ")
    return of_cause(said, _CAUSES) or Trouble(Reason.UNSCHEDULABLE, f"The API server refuses the pods: {said}")


def of_deployment(deployment: Manifest | None) -> Trouble | None:
    """Return why a Deployment's pods are not created, if they are not."""
    if deployment is None or not is_true(deployment, "ReplicaFailure"):
        return None
    return of_words(condition(deployment, "ReplicaFailure").get("message", ""))


def of_job(job: Manifest, events: tuple[Manifest, ...]) -> Trouble | None:
    """Return why a Job's pod is not created; only its events say so."""
    said = latest_words(job, events, {"FailedCreate"})
    return None if said is None else of_words(said)
