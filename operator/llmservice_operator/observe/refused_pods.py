"""Why the API server refuses the pods of a Deployment or a Job: the words of quota, Pod Security and classes that are
not there.
"""

import re

from llmservice_operator.children import Manifest
from llmservice_operator.conditions import Reason
from llmservice_operator.observe.trouble import Trouble, printable

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
    for pattern, reason, advice in _CAUSES:
        if pattern.search(said):
            return Trouble(reason, f"{advice}: {said}")
    return Trouble(Reason.UNSCHEDULABLE, f"The API server refuses the pods: {said}")


def of_deployment(deployment: Manifest | None) -> Trouble | None:
    """Return why a Deployment's pods are not created, if they are not."""
    if deployment is None:
        return None
    for condition in deployment.get("status", {}).get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return of_words(condition.get("message", ""))
    return None


def of_job(job: Manifest, events: tuple[Manifest, ...]) -> Trouble | None:
    """Return why a Job's pod is not created; only its events say so."""
    for event in latest_about(job, events):
        if event.get("reason") == "FailedCreate":
            return of_words(event.get("message") or event.get("note", ""))
    return None


def latest_about(manifest: Manifest, events: tuple[Manifest, ...]) -> list[Manifest]:
    """Return the events about an object, the latest first."""
    uid = manifest["metadata"]["uid"]
    mine = [event for event in events if _subject(event).get("uid") == uid]
    return sorted(mine, key=_time, reverse=True)


def _subject(event: Manifest) -> Manifest:
    subject: Manifest = event.get("involvedObject") or event.get("regarding") or {}
    return subject


def _time(event: Manifest) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next((time for time in times if time), ""))
