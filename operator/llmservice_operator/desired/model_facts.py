"""What a pod has to know of the model it loads, and how it is remembered.

The facts stand in an annotation of the pod template. So they are part of the revision, and as long as a newly asked-for
model is still being downloaded, the template can be rendered again with the facts of the model that serves.
"""

from dataclasses import asdict, dataclass
from json import dumps
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from llmservice_operator import names
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService

CACHE_MOUNT = "/cache"
VOLUME_MOUNT = "/model"

_METHODS = {
    "Auto": "auto",
    "BitsAndBytesNF4": "nf4",
    "BitsAndBytesFP4": "fp4",
    "BitsAndBytesInt8": "int8",
    "None": "none",
}


@dataclass(frozen=True)
class ModelFacts:
    """Everything that tells one model from another, for a pod and for its clients."""

    source: Literal["cache", "volume"]
    """`cache`: files that a warm-up left on `claim`; `volume`: the user's own claim, source pvc."""
    key: str
    """The warm-up key, or for source pvc a hash of the same kind."""
    ref: str
    """The model as people name it: the hub's repo, or claim[/path]."""
    served_name: str
    claim: str
    volume: str
    """The uid of a claim of our own, since another one of the same name is empty; "" for others' claims."""
    path: str
    """The folder below the volume's root; empty is the root."""
    commit: str
    """Empty for source pvc, like `digest`."""
    digest: str
    quantization: str
    """As in LLMSERVICE_QUANTIZATION."""
    compute_dtype: str
    double_quant: bool
    bytes: int
    """Size of the files that are loaded; 0 when unknown."""

    @property
    def mount(self) -> str:
        """Where the volume is mounted."""
        return CACHE_MOUNT if self.source == "cache" else VOLUME_MOUNT

    @property
    def folder(self) -> str:
        """The model's folder inside the container."""
        return f"{self.mount}/{self.path}" if self.path else self.mount

    def annotation(self) -> str:
        """Return the facts as the text of the template's annotation."""
        return dumps(asdict(self), sort_keys=True, separators=(",", ":"))


_FACTS = TypeAdapter(ModelFacts)


def of_template(template: Manifest) -> ModelFacts | None:
    """Return the facts in a pod template's annotation (or a pod's), or None when there are none that can be read."""
    annotation = template.get("metadata", {}).get("annotations", {}).get(names.MODEL_ANNOTATION)
    try:
        return _FACTS.validate_json(annotation or "")
    except ValidationError:
        return None


def of_deployment(deployment: Manifest | None) -> ModelFacts | None:
    """Return the facts of the model that a live Deployment asks its pods to load."""
    return of_template(deployment["spec"]["template"]) if deployment else None


def of_volume(llmservice: LLMService) -> ModelFacts:
    """Return the facts of a model with source pvc, which needs no warm-up: all of them stand in the spec."""
    source = llmservice.spec.model.source.pvc
    assert source is not None
    choices = quantization_choices(llmservice)
    return ModelFacts(
        source="volume",
        key=names.short_hash({"ref": ref(llmservice), **choices}),
        ref=ref(llmservice),
        served_name=served_name(llmservice),
        claim=source.claim_name,
        volume="",
        path=source.path.rstrip("/"),
        commit="",
        digest="",
        bytes=0,
        **choices,
    )


def ref(llmservice: LLMService) -> str:
    """Return the model that the spec asks for, as people name it."""
    return llmservice.spec.model.source.one.ref


def served_name(llmservice: LLMService) -> str:
    """Return the id under which clients ask for the model."""
    return llmservice.spec.model.served_name or llmservice.spec.model.source.one.short_name


def quantization_choices(llmservice: LLMService) -> dict[str, Any]:
    """Return how the spec wants the weights stored, in the server's words."""
    chosen = llmservice.spec.engine.quantization
    return {
        "quantization": _METHODS[chosen.method],
        "compute_dtype": chosen.compute_dtype.lower(),
        "double_quant": chosen.double_quant,
    }
