"""spec.model: which language model is served, from where, under which name."""

from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field

from llmservice_operator.schema.references import ATOMIC_MAP, InnerPath, ObjectName, SecretKeyReference, SecretReference
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


def has_port_of_tcp(url: str) -> bool:
    """Return whether the port of a URL is one, if it names one."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


_PORT = Rule(
    "!isURL(self) || url(self).getPort() == '' || (int(url(self).getPort()) >= 1 && int(url(self).getPort()) <= 65535)",
    "the port of an address is a number from 1 to 65535",
    holds=has_port_of_tcp,
)
Endpoint = Annotated[
    str, Field(max_length=256, pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$"), _PORT
]
Url = Annotated[
    str, Field(max_length=1024, pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[A-Za-z0-9._~/%?=&-]*$"), _PORT
]
ImageReference = Annotated[
    str,
    Field(max_length=512, pattern=r"^[a-z0-9][A-Za-z0-9._:/@-]*$"),
    Rule(
        "!self.contains('//')",
        "reference is an image's name as for `docker pull`: leave http:// and the like out",
        holds=lambda self: "//" not in self,
    ),
    Rule(
        # Nodes pull images, and at these addresses clouds tell a node its credentials.
        "!self.startsWith('169.254.')",
        "reference must not name a link-local address as registry: use the registry's host name",
        holds=lambda self: not self.startswith("169.254."),
    ),
]
BucketUri = Annotated[
    str,
    Field(max_length=1024, pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?$"),
    Rule(
        "!self.split('/').exists(p, p in ['.', '..'])",
        "uri names a bucket and a folder in it: leave '.' and '..' out",
        holds=lambda self: not {".", ".."} & set(self.split("/")),
    ),
]
ServerAddress = Annotated[str, Field(max_length=256, pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$"), _PORT]
Region = Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9-]+$")]
Sha256 = Annotated[str, Field(max_length=64, pattern=r"^[a-f0-9]{64}$")]
Digest = Annotated[str, Field(max_length=71, pattern=r"^sha256:[a-f0-9]{64}$")]
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

    @property
    def ref(self) -> str:
        """The model as people name it."""
        return self.repo

    @property
    def short_name(self) -> str:
        """The id in the API when the spec gives none."""
        return self.repo


class HttpSource(Structure):
    """An archive with the model's folder behind a URL, downloaded and unpacked once by the warm-up Job."""

    url: Url = Field(
        description="Address of a tar, tar.gz or zip archive that holds config.json, tokenizer and *.safetensors, in a "
        "folder or at its root. It, and whatever it redirects to, must lie below an address on the list in the "
        "operator's configuration. Example: https://models.example.com/gemma-3-270m.tar."
    )
    sha256: Sha256 = Field(
        description="SHA-256 of the archive's bytes. Nothing is unpacked before it is checked, and nothing that has it "
        "is downloaded twice. Example: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08."
    )
    token_secret_ref: SecretKeyReference | None = Field(
        None,
        json_schema_extra=ATOMIC_MAP,
        description="Secret key with a token that is sent as `Authorization: Bearer` to the server of the URL, but not "
        "to one that it redirects to. Only the warm-up Job gets it. Default: no token. Example: {name: artifacts, "
        "key: token}.",
    )

    @property
    def ref(self) -> str:
        """The URL without its query, which may hold a signature."""
        return self.url.partition("?")[0]

    @property
    def short_name(self) -> str:
        """The archive's name without what says that it is one."""
        name = PurePosixPath(urlsplit(self.url).path).name.removesuffix(".gz")
        for suffix in (".tar", ".tgz", ".zip"):
            name = name.removesuffix(suffix)
        return name or urlsplit(self.url).netloc


class S3Source(Structure):
    """A folder of a bucket, at AWS or any server with the S3 protocol, downloaded once by the warm-up Job."""

    uri: BucketUri = Field(
        description="Bucket and folder that hold config.json, tokenizer and *.safetensors. What lies there is looked "
        "up once; a changed spec.model.digest has it looked up again. Example: s3://models/gemma-3-270m."
    )
    endpoint: ServerAddress | None = Field(
        None,
        description="Address of the S3 server. It must be on the list in the operator's configuration, AWS's as well. "
        "Default: AWS's for the region. Example: https://minio.example.com:9000.",
    )
    region: Region = Field("us-east-1", description="Region of the bucket. Default: us-east-1. Example: eu-central-1.")
    credentials_secret_ref: SecretReference | None = Field(
        None,
        json_schema_extra=ATOMIC_MAP,
        description="Secret with the keys AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary ones, "
        "AWS_SESSION_TOKEN. Only the warm-up Job gets it. Default: none, for a public bucket. Example: {name: models}.",
    )

    @property
    def ref(self) -> str:
        """The folder's URI."""
        return self.uri.rstrip("/")

    @property
    def short_name(self) -> str:
        """The folder's name, or the bucket's."""
        return PurePosixPath(self.uri.removeprefix("s3://")).name

    @property
    def address(self) -> str:
        """The server that is asked."""
        return self.endpoint or f"https://s3.{self.region}.amazonaws.com"


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

    @property
    def ref(self) -> str:
        """The claim and the folder in it."""
        return "/".join(part for part in (self.claim_name, self.path.rstrip("/")) if part)

    @property
    def short_name(self) -> str:
        """The id in the API when the spec gives none."""
        return self.ref


class ImageSource(Structure):
    """A folder of a container image, mounted read-only into the replicas; nothing in it is run."""

    reference: ImageReference = Field(
        description="Image that holds the model's files; named by digest, it is the same on every node. The profile "
        "may restrict what can be named. The cluster needs image volumes: Kubernetes 1.35, or the feature gate "
        "ImageVolume since 1.33. Example: registry.example.com/models/gemma-3-270m:1."
    )
    path: InnerPath = Field(
        "",
        description="Folder of the model (config.json, *.safetensors, tokenizer) below the image's root. Default: the "
        "root. Example: models/gemma.",
    )

    @property
    def ref(self) -> str:
        """The image and the folder in it."""
        return "/".join(part for part in (self.reference, self.path.rstrip("/")) if part)

    @property
    def short_name(self) -> str:
        """The image's name with its tag, without registry and digest."""
        return PurePosixPath(self.reference.partition("@")[0]).name


AnySource = HuggingFaceSource | ClaimSource | HttpSource | S3Source | ImageSource


class ModelSource(Structure):
    """Where the model's files come from: exactly one of the fields."""

    rules = (
        Rule(
            "[has(self.huggingFace), has(self.pvc), has(self.http), has(self.s3), has(self.image)]"
            ".filter(x, x).size() == 1",
            "name exactly one source: huggingFace, pvc, http, s3 or image",
            holds=lambda self: len(self.given) == 1,
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
    http: HttpSource | None = Field(
        None,
        description="An archive behind a URL. Example: {url: https://models.example.com/gemma-3-270m.tar, sha256: "
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}.",
    )

    s3: S3Source | None = Field(
        None, description="A folder of an S3 bucket. Example: {uri: s3://models/gemma-3-270m, region: eu-central-1}."
    )

    image: ImageSource | None = Field(
        None,
        description="A folder of a container image. Such a model needs no cache; it is quantized while it loads. "
        "Example: {reference: registry.example.com/models/gemma-3-270m:1}.",
    )

    @property
    def given(self) -> list[AnySource]:
        """The sources that are named; exactly one, once the rule holds."""
        sources = (self.hugging_face, self.pvc, self.http, self.s3, self.image)
        return [source for source in sources if source is not None]

    @property
    def one(self) -> AnySource:
        """The source."""
        return self.given[0]


class LanguageModel(Structure):
    """The language model that is served."""

    source: ModelSource = Field(
        description="Where the model's files come from: exactly one of its fields. Example: {huggingFace: {repo: "
        "google/gemma-3-270m}}."
    )
    served_name: ServedName | None = Field(
        None,
        description="The id under which clients ask for the model in the OpenAI routes. Default: the repo, for a pvc "
        "the claim's name and path, for an archive its name without .tar, .tar.gz, .tgz or .zip, for a "
        "bucket its last folder, for an image its last part. Example: gemma.",
    )
    digest: Digest | None = Field(
        None,
        description="Digest that the model's files must have, as status.model.digest shows it; no replica serves "
        "others. It is the SHA-256 of the sorted lines that `sha256sum` prints for the files that replicas load. "
        "Default: not compared. Example: "
        "sha256:1539cbad43bc62315617881b6126d6afb2762f69b72b43ca0b028c261b92afea.",
    )
