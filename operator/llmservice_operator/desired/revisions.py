"""Revisions: every pod template that was rolled out, with its configuration and what came of it.

Each is kept as a ControllerRevision, written before the Deployment that carries it, so that the one that worked last
can be put back whatever has happened since to the spec, the profile or the operator.
"""

from dataclasses import asdict, dataclass, field
from json import dumps
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.diagnosis.model_shape import ModelShape
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService


@dataclass(frozen=True)
class Outcome:
    """What came of a revision. `Good`: all its replicas were ready. `Rejected`: it was at fault and was taken back."""

    result: Literal["Good", "Rejected"]
    time: str
    """When that was decided, RFC 3339."""
    reason: str = ""
    """For a rejected one: a reason of conditions.md, and the message that goes with it."""
    message: str = ""
    retry: str = ""
    """The annotation `llmservice.dev/retry` at that time; another value lifts the rejection."""
    back_to: str = ""
    """The revision that somebody wants to run instead, where it was not at fault but taken back by hand."""


@dataclass(frozen=True)
class Revision:
    """One revision; without an outcome it is on its way, or was superseded on it."""

    name: str
    """Hash of the pod template, as in the label of its pods."""
    number: int
    """Rises with every change of what is asked for."""
    template: Manifest
    environment: dict[str, str]
    """Data of the ConfigMap that the template names."""
    prompts: dict[str, str] = field(default_factory=dict)
    """Data of the ConfigMap with the golden prompts that the template names, if it names one."""
    outcome: Outcome | None = None
    in_place: str = ""
    """Why its rollout lets old replicas make room for the new ones; empty while it does not."""
    request: Manifest = field(default_factory=dict)
    """What it was rendered from; see `desired.updates.request`."""
    update: str = ""
    """The annotation `llmservice.dev/apply-update` that it knows of; another value applies what is pending."""
    rollback: str = ""
    """The annotation `llmservice.dev/rollback-to` that it knows of; another value takes it back."""
    beyond: Manifest = field(default_factory=dict)
    """What a newer operator has kept with it: data of a ControllerRevision cannot be changed, not even taken away."""

    @property
    def is_good(self) -> bool:
        return self.outcome is not None and self.outcome.result == "Good"

    @property
    def is_rejected(self) -> bool:
        return self.outcome is not None and self.outcome.result == "Rejected"


_OUTCOME = TypeAdapter(Outcome)
_DATA = {"template", "environment", "request", "prompts"}


def of_children(children: Children) -> list[Revision]:
    """Return the revisions that are kept, the oldest first."""
    found = [_revision(manifest) for manifest in children.revisions]
    return sorted((item for item in found if item is not None), key=lambda item: (item.number, item.name))


def name_of(manifest: Manifest) -> str:
    """Return which revision a ControllerRevision keeps: by its name, for labels can be edited."""
    return str(manifest["metadata"]["name"]).rpartition("-")[2]


def controller_revision(llmservice: LLMService, revision: Revision, shape: ModelShape | None = None) -> Manifest:
    """Return the ControllerRevision that keeps `revision`, and `shape`, which is that of its model where it is known.

    Nothing else keeps it for a model on a volume that is somebody else's.
    """
    metadata = names.metadata(llmservice, name=names.controller_revision(llmservice.name, revision.name))
    metadata["labels"][names.REVISION_LABEL] = revision.name
    outcome = {} if revision.outcome is None else asdict(revision.outcome)
    written = {
        names.OUTCOME_ANNOTATION: dumps(outcome, sort_keys=True, separators=(",", ":")) if outcome else "",
        names.IN_PLACE_ANNOTATION: revision.in_place,
        names.APPLIED_UPDATE_ANNOTATION: revision.update,
        names.KNOWN_ROLLBACK_ANNOTATION: revision.rollback,
        names.SHAPE_ANNOTATION: "" if shape is None else shape.model_dump_json(exclude_none=True),
    }
    annotations = {name: value for name, value in written.items() if value}
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "revision": revision.number,
        "data": {
            "template": revision.template,
            "environment": revision.environment,
            "request": revision.request,
            # Not an empty one: data cannot be changed, and there are revisions from before there were prompts.
            **({"prompts": revision.prompts} if revision.prompts else {}),
            **revision.beyond,
        },
    }


def _revision(manifest: Manifest) -> Revision | None:
    """Return what a ControllerRevision holds, or None where somebody has put something else into it."""
    metadata, data = manifest["metadata"], manifest.get("data")
    if not isinstance(data, dict) or not data.keys() >= {"template", "environment", "request"}:
        return None
    annotations = metadata.get("annotations", {})
    annotation = annotations.get(names.OUTCOME_ANNOTATION)
    try:
        outcome = _OUTCOME.validate_json(annotation) if annotation else None
    except ValidationError:
        outcome = None
    return Revision(
        name=name_of(manifest),
        number=manifest["revision"],
        template=data["template"],
        environment=data["environment"],
        prompts=data.get("prompts", {}),
        outcome=outcome,
        in_place=annotations.get(names.IN_PLACE_ANNOTATION, ""),
        request=data["request"],
        update=annotations.get(names.APPLIED_UPDATE_ANNOTATION, ""),
        rollback=annotations.get(names.KNOWN_ROLLBACK_ANNOTATION, ""),
        beyond={name: value for name, value in data.items() if name not in _DATA},
    )
