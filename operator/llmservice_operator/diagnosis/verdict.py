"""The last word of a container: the JSON object in its termination message.

A warm-up that succeeded says what it cached; any container that failed says why. Readers of this treat it as data from
outside: the warm-up handles hostile repositories, and anybody who may edit a PVC may edit the annotation that keeps a
verdict.
"""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator

from llmservice_operator.diagnosis.model_shape import ModelShape, Quantization, or_none
from llmservice_operator.manifest import Manifest

InnerPath = Annotated[str, Field(max_length=512, pattern=r"^(models|quantized)(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$")]
"""A folder below the cache's root; no part of it starts with a dot."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Verdict(_Data):
    """What a warm-up left on the volume."""

    outcome: Literal["Downloaded", "AlreadyPresent"]
    commit: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
    digest: Annotated[str, Field(pattern=r"^sha256:[a-f0-9]{64}$")]
    path: InnerPath
    """What serving pods load, below the cache's root."""
    quantization: Quantization
    bytes: Annotated[int, Field(ge=0)]
    """Size of that folder."""
    shape: Annotated[ModelShape | None, WrapValidator(or_none)] = None
    """None from a warm-up of an earlier version, and where the config calls its sizes otherwise than it knows."""


class Failure(_Data):
    """Why a container ended; `reason` is one of conditions.md if the image is of our version."""

    reason: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{1,63}$")]
    message: str = ""


class _Message(_Data):
    verdict: Verdict | None = None
    failure: Failure | None = None


def parse(message: str | None) -> Verdict | Failure | None:
    """Return what a termination message says, or None when it is absent or not ours."""
    try:
        said = _Message.model_validate_json(message or "")
    except ValidationError:
        return None
    return said.failure or said.verdict


def of_pod(pod: Manifest, container: str) -> Verdict | Failure | None:
    """Return the last word of a pod's container, of its current or its previous run."""
    status = container_status(pod, container)
    for state in (status.get("state", {}), status.get("lastState", {})):
        said = parse(state.get("terminated", {}).get("message"))
        if said is not None:
            return said
    return None


def container_status(pod: Manifest, container: str) -> Manifest:
    """Return the status of one container of a pod; empty when there is none yet."""
    statuses: list[Manifest] = pod.get("status", {}).get("containerStatuses") or []
    return next((status for status in statuses if status.get("name") == container), {})


def records(annotation: str | None) -> dict[str, Verdict]:
    """Return the verdicts in a PVC's annotation, by warm-up key, oldest first; what cannot be read is left out."""
    try:
        content = json.loads(annotation or "{}")
    except (ValueError, RecursionError):  # Somebody may have written anything, thousands of brackets too.
        return {}
    found: dict[str, Verdict] = {}
    for key, value in content.items() if isinstance(content, dict) else ():
        try:
            found[key] = Verdict.model_validate(value)
        except ValidationError:
            continue
    return found


def annotation(verdicts: dict[str, Verdict]) -> str:
    """Return verdicts as the text of a PVC's annotation, in their order."""
    content = {key: verdict.model_dump(exclude_none=True) for key, verdict in verdicts.items()}
    return json.dumps(content, separators=(",", ":"))
