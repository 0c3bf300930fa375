"""What is wrong with a spec although the API server took it: its profile or an endpoint is not there, or does not allow
it.
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmservice_operator.desired import windows
from llmservice_operator.desired.effective import effective
from llmservice_operator.desired.endpoints import is_allowed
from llmservice_operator.schema import LLMService
from llmservice_operator.schema.quantity import amount
from llmservice_operator.schema.source import HttpSource, HuggingFaceSource, S3Source
from llmservice_operator.settings import Allow, Profile, Settings, allows


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a spec from being carried out; nobody but its author or the administrator can cure it."""

    reason: str
    """A reason of the condition `ConfigurationValid`."""
    message: str


def problems(llmservice: LLMService, settings: Settings) -> tuple[Problem, ...]:
    """Return what is wrong with the spec under this configuration, the first to cure first; empty means nothing."""
    profile = settings.profile(llmservice.spec.profile)
    if profile is None:
        return (_profile_not_found(llmservice.spec.profile, settings),)
    return (
        *_endpoint(llmservice, settings),
        *_window(llmservice),
        *(Problem("NotAllowedByProfile", message) for message in _not_allowed(llmservice, profile, settings)),
    )


def _profile_not_found(name: str, settings: Settings) -> Problem:
    close = difflib.get_close_matches(name, settings.profiles, n=1)
    advice = f"did you mean {close[0]!r}?" if close else f"this operator has: {', '.join(sorted(settings.profiles))}"
    return Problem("ProfileNotFound", f"Change spec.profile: there is no profile {name!r}; {advice}")


def _endpoint(llmservice: LLMService, settings: Settings) -> Iterator[Problem]:
    match llmservice.spec.model.source.one:
        case HuggingFaceSource(endpoint=str() as endpoint):
            path, address, is_listed = (
                "huggingFace.endpoint",
                endpoint,
                endpoint.rstrip("/") in settings.allowed_endpoints,
            )
        case HttpSource(ref=address) as http:
            path, is_listed = "http.url", is_allowed(http.url, settings.allowed_endpoints)
        case S3Source(address=address) as s3:
            field = "endpoint" if s3.endpoint else "region"
            path, is_listed = f"s3.{field}", is_allowed(address, settings.allowed_endpoints)
        case _:
            return
    if not is_listed:
        yield Problem(
            "EndpointNotAllowed",
            f"Change spec.model.source.{path}, or ask the administrator to allow it: {address} is not among "
            f"{', '.join(settings.allowed_endpoints)}",
        )


def _window(llmservice: LLMService) -> Iterator[Problem]:
    window = llmservice.spec.upgrade_policy.window
    fault = "" if window is None else windows.fault(window)
    if fault:
        yield Problem("ScheduleInvalid", fault)


def _not_allowed(llmservice: LLMService, profile: Profile, settings: Settings) -> Iterator[str]:
    spec, allow = llmservice.spec, profile.allow
    yield from _unlisted("spec.service.type", [spec.service.type], allow.service_types)
    yield from _unlisted("spec.service.annotations", spec.service.annotations, allow.service_annotation_keys)
    yield from _unlisted("spec.scheduling.nodeSelector", spec.scheduling.node_selector, allow.node_selector_keys)
    keys = [toleration.key for toleration in spec.scheduling.tolerations]
    yield from _unlisted("spec.scheduling.tolerations", keys, allow.toleration_keys)
    for path, value, patterns in (
        ("spec.scheduling.priorityClassName", spec.scheduling.priority_class_name, allow.priority_classes),
        ("spec.scheduling.runtimeClassName", spec.scheduling.runtime_class_name, allow.runtime_classes),
        ("spec.cache.storageClassName", spec.cache.storage_class_name, allow.storage_classes),
        ("spec.resources.gpu.resourceName", spec.resources.gpu.resource_name, allow.gpu_resource_names),
    ):
        yield from _unlisted(path, [] if value is None else [value], patterns)
    yield from _out_of_bounds(llmservice, allow, profile, settings)


def _unlisted(path: str, values: Iterable[str], patterns: list[str] | None) -> Iterator[str]:
    for value in values:
        if not allows(patterns, value):
            listed = ", ".join(patterns or ()) or "none"
            yield f"Change {path}: the profile does not allow {value!r}; allowed: {listed}"


def _out_of_bounds(llmservice: LLMService, allow: Allow, profile: Profile, settings: Settings) -> Iterator[str]:
    spec = llmservice.spec
    path, replicas = ("spec.replicas", spec.replicas)
    if spec.scaling is not None:
        path, replicas = ("spec.scaling.maxReplicas", spec.scaling.max_replicas)
    if replicas > allow.max_replicas:
        yield f"Lower {path}: {replicas} is more than the {allow.max_replicas} that the profile allows"
    values = effective(llmservice, profile, settings)
    for kind, quantities in (("requests", values.requests), ("limits", values.limits)):
        memory = quantities.get("memory")
        if memory is not None and amount(memory) < amount(allow.min_memory):
            path = f"spec.resources.{kind}.memory"
            yield f"Raise {path}: {memory} is less than the {allow.min_memory} that the profile asks for"
