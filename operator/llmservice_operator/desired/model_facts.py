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
from llmservice_operator.schema.source import ClaimSource, ImageSource

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

    source: Literal["cache", "volume", "image"]
    """`cache`: files that a warm-up left on `claim`; `volume`: the user's own claim, source pvc; `image`: one's
    content.
    """
    key: str
    """The warm-up key, or for what is mounted as it is a hash of the same kind."""
    ref: str
    """The model as people name it."""
    served_name: str
    claim: str
    """Empty for an image."""
    volume: str
    """The uid of a claim of our own, since another one of the same name is empty; "" for others' claims."""
    path: str
    """The folder below the volume's root; empty is the root."""
    commit: str
    """Empty for what is mounted as it is, like `digest`."""
    digest: str
    quantization: str
    """As in LLMSERVICE_QUANTIZATION."""
    compute_dtype: str
    double_quant: bool
    bytes: int
    """Size of the files that are loaded; 0 when unknown."""
    image: str = ""
    """Reference of the image that holds the files."""
    expected_digest: str = ""
    """What the server has to find, of files that no warm-up has seen."""

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
        known = {name: value for name, value in asdict(self).items() if value or name not in _LATER}
        return dumps(known, sort_keys=True, separators=(",", ":"))


_LATER = frozenset({"image", "expected_digest"})
"""Left out while empty: a new word in every template would replace every pod."""
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


def of_mounted(llmservice: LLMService) -> ModelFacts:
    """Return the facts of a model that pods mount as it is, without a warm-up: all of them stand in the spec."""
    source = llmservice.spec.model.source.one
    kind: Literal["volume", "image"]
    match source:
        case ClaimSource(claim_name=claim):
            kind, image = "volume", ""
        case ImageSource(reference=image):
            kind, claim = "image", ""
        case _:
            raise AssertionError("every other source has a warm-up")
    choices = quantization_choices(llmservice)
    return ModelFacts(
        source=kind,
        key=names.short_hash({"ref": ref(llmservice), **choices}),
        ref=ref(llmservice),
        served_name=served_name(llmservice),
        claim=claim,
        volume="",
        path=source.path.rstrip("/"),
        commit="",
        digest="",
        bytes=0,
        image=image,
        expected_digest=llmservice.spec.model.digest or "",
        **choices,
    )


def ref(llmservice: LLMService) -> str:
    """Return the model that the spec asks for, as people name it."""
    return llmservice.spec.model.source.one.ref


def served_name(llmservice: LLMService) -> str:
    """Return the id under which clients ask for the model."""
    return llmservice.spec.model.served_name or llmservice.spec.model.source.one.short_name


def method_of(quantization: str) -> str:
    """Return what spec.engine.quantization.method calls a quantization of the server's."""
    return next(method for method, word in _METHODS.items() if word == quantization)


def quantization_choices(llmservice: LLMService) -> dict[str, Any]:
    """Return how the spec wants the weights stored, in the server's words."""
    chosen = llmservice.spec.engine.quantization
    return {
        "quantization": _METHODS[chosen.method],
        "compute_dtype": chosen.compute_dtype.lower(),
        "double_quant": chosen.double_quant,
    }
