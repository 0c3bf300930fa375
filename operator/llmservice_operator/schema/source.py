"""spec.model: which language model is served, from where, under which name."""

from typing import Annotated

from pydantic import Field

from llmservice_operator.schema.references import ATOMIC_MAP, InnerPath, ObjectName, SecretKeyReference
from llmservice_operator.schema.rules import Rule, Structure

HubRepo = Annotated[
    str,
    Field(max_length=193, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"),
    Rule(
        "!self.contains('..') && !self.contains('--')",
        "repo is owner/name as on the hub, without '..' or '--'",
        holds=lambda self: ".." not in self and "--" not in self,
    ),
]
Revision = Annotated[
    str,
    Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"),
    Rule(
        "!self.split('/').exists(p, p in ['', '.', '..'])",
        "revision is a branch, tag or commit: no empty, '.' or '..' part between slashes",
        holds=lambda self: not {"", ".", ".."} & set(self.split("/")),
    ),
]
Endpoint = Annotated[str, Field(max_length=256, pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$")]
ServedName = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")]


class HuggingFaceSource(Structure):
    """A repository on a Hugging Face hub, downloaded once into the cache by the warm-up Job."""

    repo: HubRepo = Field(description="Repository on the hub, as owner/name. Example: google/gemma-3-270m.")
    revision: Revision = Field(
        "main",
        description="Branch, tag or commit. It is resolved to a commit once, when the model is cached; "
        "status.model.resolvedRevision shows which. Default: main. Example: "
        "9b0cfec892e2bc2afd938c98eabe4e4a7b1e0ca1.",
    )
    endpoint: Endpoint | None = Field(
        None,
        description="Address of the hub. It must be on the list in the operator's configuration. Default: the "
        "operator's defaultEndpoint. Example: https://huggingface.co.",
    )
    token_secret_ref: SecretKeyReference | None = Field(
        None,
        json_schema_extra=ATOMIC_MAP,
        description="Secret key with the access token for a gated or private repository. Only the warm-up Job gets "
        "it; serving pods do not. Default: no token. Example: {name: hugging-face, key: token}.",
    )


class ClaimSource(Structure):
    """A folder of an existing PersistentVolumeClaim, mounted read-only; nothing is downloaded."""

    claim_name: ObjectName = Field(
        description="Name of a PersistentVolumeClaim in the same namespace that holds the model's files. Example: "
        "models."
    )
    path: InnerPath = Field(
        "",
        description="Folder of the model (config.json, *.safetensors, tokenizer) below the volume's root. Default: "
        "the root. Example: gemma/270m.",
    )


class ModelSource(Structure):
    """Where the model's files come from: exactly one of the fields."""

    rules = (
        Rule(
            "[has(self.huggingFace), has(self.pvc)].filter(x, x).size() == 1",
            "name exactly one source: huggingFace or pvc",
            holds=lambda self: (self.hugging_face is None) != (self.pvc is None),
        ),
    )

    hugging_face: HuggingFaceSource | None = Field(
        None, description="A repository on a Hugging Face hub. Example: {repo: google/gemma-3-270m}."
    )
    pvc: ClaimSource | None = Field(
        None,
        description="A folder of an existing PersistentVolumeClaim. Such a model needs no cache; it is quantized "
        "while it loads. Example: {claimName: models, path: gemma/270m}.",
    )


class LanguageModel(Structure):
    """The language model that is served."""

    source: ModelSource = Field(
        description="Where the model's files come from: exactly one of huggingFace and pvc. Example: {huggingFace: "
        "{repo: google/gemma-3-270m}}."
    )
    served_name: ServedName | None = Field(
        None,
        description="The id under which clients ask for the model in the OpenAI routes. Default: the repo, or for a "
        "pvc the claim's name and path. Example: gemma.",
    )
