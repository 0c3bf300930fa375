"""Changes of a service's pods that its spec did not ask for, but another version of the operator or of its profile.

The pods of a service are pinned to the revision that was rolled out for its spec. When the same request is rendered
differently today, that is the operator's own change: it waits until somebody asks for it, or until the spec changes
anyway.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import model_facts, verification
from llmservice_operator.desired.config_map import config_map
from llmservice_operator.desired.deployment import pod_template
from llmservice_operator.desired.effective import Effective, effective
from llmservice_operator.desired.model_facts import ModelFacts
from llmservice_operator.desired.revisions import Revision
from llmservice_operator.desired.windows import until_open
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from llmservice_operator.schema.spec import Spec
from llmservice_operator.settings import Settings


@dataclass(frozen=True)
class Rendering:
    """What pods are made from."""

    template: Manifest
    environment: dict[str, str]
    """Data of the ConfigMap that the template names."""
    prompts: dict[str, str]
    """Data of the one with the golden prompts; empty without any."""


def rendering(llmservice: LLMService, values: Effective, facts: ModelFacts, children: Children) -> Rendering:
    """Return what the pods of `llmservice` are made from, by this operator and its present settings."""
    environment = config_map(llmservice, values, facts)["data"]
    return Rendering(pod_template(llmservice, values, facts, children), environment, verification.prompts(llmservice))


def request(llmservice: LLMService) -> Manifest:
    """Return what a rendering follows from, beside the model's facts and the operator: to be kept with a revision.

    Without the values that are the schema's defaults: a default that changes is a change of the operator.
    """
    return {
        "spec": llmservice.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "restart": llmservice.metadata.annotations.get(names.RESTART_ANNOTATION, ""),
    }


@dataclass(frozen=True)
class Pending:
    """A change of the operator's own that waits."""

    fields: tuple[str, ...]
    """What it would change."""
    wait: timedelta | None = None
    """Until the window opens; None without one."""


def pending(
    llmservice: LLMService, rendered: Rendering, last: Revision, settings: Settings, children: Children, now: datetime
) -> Pending | None:
    """Return in what `rendered` differs from `last`, the revision that was asked for last, although the same is asked
    for; None where it is to be rolled out.
    """
    policy = llmservice.spec.upgrade_policy
    wait = None if policy.window is None else until_open(policy.window, now)
    if policy.mode == "Auto" or wait == timedelta() or last.update != asked_for(llmservice):
        return None
    if last.template == rendered.template or _again(llmservice, last, settings, children) != rendered:
        return None
    return Pending(tuple(_differences(last, rendered)), wait)


def asked_for(llmservice: LLMService) -> str:
    """Return the annotation that asks for a pending update; a value that was not there before does."""
    return llmservice.metadata.annotations.get(names.APPLY_UPDATE_ANNOTATION, "")


def _again(llmservice: LLMService, last: Revision, settings: Settings, children: Children) -> Rendering | None:
    """Return what the request behind a revision is rendered to today; None where that cannot be told."""
    facts = model_facts.of_template(last.template)
    try:
        spec = Spec.model_validate(last.request.get("spec"))
    except ValidationError:
        return None
    profile = settings.profile(spec.profile)
    if facts is None or profile is None:
        return None
    annotations = {**llmservice.metadata.annotations, names.RESTART_ANNOTATION: last.request.get("restart", "")}
    metadata = llmservice.metadata.model_copy(update={"annotations": annotations})
    before = llmservice.model_copy(update={"metadata": metadata, "spec": spec})
    return rendering(before, effective(before, profile, settings), facts, children)


def _differences(last: Revision, rendered: Rendering) -> Iterator[str]:
    yield from _paths(_comparable(last.template), _comparable(rendered.template), "")
    yield from _paths(last.environment, rendered.environment, "environment")
    yield from _paths(last.prompts, rendered.prompts, "prompts")


def _comparable(template: Manifest) -> Manifest:
    """Return a template without what follows from the rest: its own hash, and that of the environment."""
    labels = {key: value for key, value in template["metadata"]["labels"].items() if key != names.REVISION_LABEL}
    containers = [{**container, "envFrom": None} for container in template["spec"]["containers"]]
    return {
        "metadata": {**template["metadata"], "labels": labels},
        "spec": {**template["spec"], "containers": containers},
    }


def _paths(before: Any, after: Any, path: str) -> Iterator[str]:
    """Yield where two values differ; what has a name is told by it."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            inner = f"{path}[{key}]" if "/" in key or "." in key else f"{path}.{key}".lstrip(".")
            yield from _paths(before.get(key), after.get(key), inner)
    elif _are_named(before) and _are_named(after):
        was, will_be = ({item["name"]: item for item in items} for items in (before, after))
        for name in sorted(was.keys() | will_be.keys()):
            yield from _paths(was.get(name), will_be.get(name), f"{path}[{name}]")
    else:
        yield path


def _are_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value)
