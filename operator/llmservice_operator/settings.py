"""The operator's configuration: one YAML file, read once at start, changed by an administrator and a restart.

What a user must not choose (images, extra environment, affinity) and what a spec may leave open (GPU count, requests,
cache size) stands in named profiles here. An unknown key or a bad value ends the start with a `SettingsError` that
names it.
"""

import difflib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from llmservice_operator.schema.quantity import Quantity, amount
from llmservice_operator.schema.source import has_port_of_tcp

DEFAULT_ENDPOINT = "https://huggingface.co"
DEFAULT_PROFILE_ALIAS = "default"
"""The value of `spec.profile` that means `Settings.default_profile`."""


def _with_port_of_tcp(address: str) -> str:
    if not has_port_of_tcp(address):
        raise ValueError(f"the port of {address} is no number from 1 to 65535")
    return address


Endpoint = Annotated[
    str,
    Field(pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$"),
    BeforeValidator(lambda value: value.rstrip("/") if isinstance(value, str) else value),
    AfterValidator(_with_port_of_tcp),
]
"""The address of a hub, without a slash at the end."""

Port = Annotated[int, Field(ge=1, le=65535)]


class SettingsError(Exception):
    """The configuration file cannot be used; the message names each key and what is wrong with it, one per line."""


class _Section(BaseModel):
    """A part of the file: camelCase keys, none that we do not know, nothing changed after reading."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class Gpu(_Section):
    """The accelerators of one replica."""

    count: Annotated[int, Field(ge=0, le=16)] = 0
    """How many; default 0, because asking for a GPU that no node has leaves every pod pending."""
    resource_name: str = "nvidia.com/gpu"
    """The extended resource that the device plugin offers; default NVIDIA's, the one most clusters have."""
    memory: Quantity | None = None
    """Memory of one, as nvidia-smi shows it: what needs more is refused before any is asked for; default unknown, and
    then nothing is refused.
    """


class Warmup(_Section):
    """The Job that downloads and quantizes."""

    image: str | None = None
    """Default the profile's; a profile with a torch-free image names one here that can quantize."""
    backoff_limit: Annotated[int, Field(ge=0, le=20)] = 3
    """Attempts after the first; default 3, which outlives a short failure of the hub."""
    timeout_seconds: Annotated[int, Field(ge=60, le=86400)] = 7200
    """Seconds until the Job is given up; default 7200, in which 50 MB/s bring 360 GB."""
    requests: dict[str, Quantity] = {"cpu": "1", "memory": "2Gi"}
    """cpu and memory asked for; default 1 core and 2Gi, what a download with checksums needs."""
    limits: dict[str, Quantity] = {"memory": "16Gi"}
    """Bounds of the same; default 16Gi memory, because quantizing holds one shard in full precision."""


class Allow(_Section):
    """What a spec under this profile may choose. An absent list allows what the CRD allows.

    Entries of the lists of keys may end in `*`, as in `service.beta.kubernetes.io/*`.
    """

    service_types: list[str] | None = None
    """Values of `service.type`."""
    service_annotation_keys: list[str] | None = None
    """Keys of `service.annotations`: some steer other controllers."""
    node_selector_keys: list[str] | None = None
    """Keys of `scheduling.nodeSelector`."""
    toleration_keys: list[str] | None = None
    """Keys of `scheduling.tolerations`."""
    priority_classes: list[str] | None = None
    """Values of `scheduling.priorityClassName`."""
    runtime_classes: list[str] | None = None
    """Values of `scheduling.runtimeClassName`."""
    storage_classes: list[str] | None = None
    """Values of `cache.storageClassName`."""
    model_images: list[str] | None = None
    """Values of `model.source.image.reference`, as in `registry.example.com/models/*`."""
    gpu_resource_names: list[str] | None = None
    """Values of `resources.gpu.resourceName`."""
    max_replicas: Annotated[int, Field(ge=1, le=100)] = 100
    """The most `replicas` and `scaling.maxReplicas` may be; default 100, the CRD's own bound."""
    min_memory: Quantity = "64Mi"
    """The least memory a server may ask for or be limited to; default 64Mi, below which even its web process cannot
    start.
    """


def allows(patterns: list[str] | None, value: str) -> bool:
    """Whether an allow-list has `value`, or is absent."""
    return patterns is None or any(fnmatchcase(value, pattern) for pattern in patterns)


class Profile(_Section):
    """A named set of what the administrator chooses and of the values that a spec leaves open."""

    image: str | None = None
    """The server's image; default `images.server`. A torch-free profile names the gateway image here."""
    env: dict[str, str] = {}
    """More environment for the server and the warm-up; it overrides ours. Only an administrator may set any."""
    gpu: Gpu = Gpu()
    requests: dict[str, Quantity] = {"cpu": "2", "memory": "8Gi"}
    """cpu, memory and ephemeral-storage that a replica asks for; default 2 cores and 8Gi, a 3 B model in 4 bits with
    its cache.
    """
    limits: dict[str, Quantity] = {"memory": "16Gi"}
    """Bounds of the same; default 16Gi memory and no cpu limit, since throttling only makes a token late."""
    cache_size: Quantity = "50Gi"
    """Size of a cache volume; default 50Gi: raw and quantized files of two revisions of an 8 B model."""
    storage_class_name: str | None = None
    """Class of a cache volume; default the cluster's own."""
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteOnce"
    """Access mode of a cache volume; default ReadWriteOnce, which every provisioner offers. It keeps all replicas on
    one node.
    """
    max_model_len: Annotated[int, Field(ge=128)] | None = None
    """Tokens of prompt and completion together; default what the model's own config says, as far as the server caps
    it.
    """
    max_batch_size: Annotated[int, Field(ge=1, le=256)] = 8
    """Sequences generated at once; default 8, which fits beside a 3 B model in 16 GB."""
    max_queue_depth: Annotated[int, Field(ge=0, le=10000)] = 64
    """Requests that may wait for a slot; default 64, eight batches: more would time out before their turn."""
    max_tokens: Annotated[int, Field(ge=1)] = 256
    """Completion tokens of a request that names none; default 256, as in the original deployment."""
    node_selector: dict[str, str] = {}
    """Labels of the nodes; keys of the spec are added, and win."""
    tolerations: list[dict[str, Any]] = []
    """Taints tolerated besides those of the spec."""
    affinity: dict[str, Any] = {}
    """A pod's `affinity`; ours for a ReadWriteOnce volume is added to it."""
    runtime_class_name: str | None = None
    """Container runtime, such as `nvidia`; default the node's own."""
    priority_class_name: str | None = None
    """Priority of the pods; default the cluster's own."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm; default the container runtime's 64Mi."""
    warmup: Warmup = Warmup()
    image_pull_secrets: list[str] = []
    """Names of the pull secrets, which must be in the LLMService's namespace."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """Default IfNotPresent: released images never change under their tag."""
    allow: Allow = Allow()

    @model_validator(mode="before")
    @classmethod
    def _absent_sections(cls, value: Any) -> Any:
        """A key without a value in YAML (`warmup:`) means its default."""
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _keeps_its_own_bounds(self) -> Self:
        for kind, quantities in (("requests", self.requests), ("limits", self.limits)):
            memory = quantities.get("memory")
            if memory is not None and amount(memory) < amount(self.allow.min_memory):
                raise ValueError(f"{kind}.memory is {memory}, less than the {self.allow.min_memory} of allow.minMemory")
        return self


class Images(_Section):
    """Images the operator deploys."""

    server: str
    """The inference server with its engine; no default, because the reference carries the version that was
    installed.
    """


class Limits(_Section):
    """How hard the operator may work."""

    workers: Annotated[int, Field(ge=1, le=64)] = 8
    """LLMServices reconciled at once; default 8: a reconcile mostly waits for the API server."""
    reconcile_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds after which one reconcile is given up and tried again later; default 60: a child is made in three
    requests, which may take 15 seconds each, and a reconcile that is cut short must have made one.
    """
    requests_per_second: Annotated[float, Field(gt=0)] = 200.0
    """Requests to the API server, watches aside; default 200: a new service takes about 28 until it is ready, and a
    thousand at once must not wait for this limit.
    """


class Settings(_Section):
    """The whole file."""

    watch_namespaces: list[str] = []
    """Namespaces whose LLMServices are served; default none named, which means all."""
    default_profile: str = "nvidia"
    """What `spec.profile: default` means; default nvidia, since most models want a GPU."""
    default_endpoint: Endpoint = DEFAULT_ENDPOINT
    """The hub of a spec that names none; default the public one."""
    allowed_endpoints: list[Endpoint] = [DEFAULT_ENDPOINT]
    """Addresses that a spec may have models fetched from, hubs and web servers; default the public hub over https, so
    that no warm-up reaches an internal address.
    """
    management_namespaces: list[str] = ["llmservice-system"]
    """Namespaces whose pods reach the management port of replicas under spec.networkPolicy: the operator's own, by
    default the one it is installed to, and that of whatever scrapes metrics.
    """
    images: Images
    profiles: dict[str, Profile]
    """By name; at least the default one."""
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _defaults_exist(self) -> Self:
        if self.default_profile not in self.profiles:
            known = ", ".join(sorted(self.profiles)) or "none"
            raise ValueError(f"defaultProfile names {self.default_profile!r}, but profiles has: {known}")
        if self.default_endpoint not in self.allowed_endpoints:
            raise ValueError(f"defaultEndpoint {self.default_endpoint} must stand in allowedEndpoints too")
        return self

    def profile(self, name: str) -> Profile | None:
        """Return the profile that `spec.profile` means by `name`, or None when there is none."""
        return self.profiles.get(self.default_profile if name == DEFAULT_PROFILE_ALIAS else name)

    def image(self, profile: Profile) -> str:
        """Return the image of server and warm-up under `profile`."""
        return profile.image or self.images.server


def load(path: Path) -> Settings:
    """Read the configuration file.

    Raises:
        SettingsError: the file cannot be read, is not YAML, or has unknown keys or bad values.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: {error}") from error
    return parse(content, source=str(path))


def parse(content: object, source: str = "configuration") -> Settings:
    """Return the settings that a parsed YAML document means.

    Raises:
        SettingsError: it has unknown keys or bad values; `source` begins the message.
    """
    try:
        return Settings.model_validate({} if content is None else content)
    except ValidationError as error:
        lines = [f"{source}: {_complaint(detail['loc'], detail)}" for detail in error.errors()]
        raise SettingsError("\n".join(lines)) from error


def _complaint(location: tuple[int | str, ...], detail: Any) -> str:
    """Return one error of pydantic as "key: what is wrong"."""
    key = ".".join(str(part) for part in location) or "the file"
    match detail["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key{_suggestion(str(location[-1]))}"
        case "missing":
            return f"{key}: required"
        case "value_error":
            return f"{key}: {detail['msg'].removeprefix('Value error, ')}"
        case _:
            return f"{key}: {detail['msg']}, not {_shown(detail['input'])}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _suggestion(key: str) -> str:
    close = difflib.get_close_matches(key, sorted(_KNOWN_KEYS), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


_KNOWN_KEYS = {
    str(field.alias)
    for section in (Settings, Images, Limits, Profile, Gpu, Warmup, Allow)
    for field in section.model_fields.values()
}
