"""spec.resources: what each replica asks of its node."""

from typing import Annotated

from pydantic import Field

from llmservice_operator.schema.quantity import Quantity, amount
from llmservice_operator.schema.references import Int32
from llmservice_operator.schema.rules import Rule, Structure

_COUNTED = ("cpu", "memory", "ephemeral-storage")

Quantities = Annotated[
    dict[str, Quantity],
    Field(max_length=3),
    Rule(
        "self.all(k, k in ['cpu', 'memory', 'ephemeral-storage'])",
        "only cpu, memory and ephemeral-storage; GPUs are asked for in resources.gpu",
        holds=lambda self: all(key in _COUNTED for key in self),
    ),
]
GpuCount = Annotated[
    Int32,
    Field(ge=0),
    Rule("self <= 1", "the engine runs on one GPU per replica: count is 0 or 1", holds=lambda self: self <= 1),
]
GpuMemory = Annotated[str, Field(max_length=16, pattern=r"^[1-9][0-9]*(Mi|Gi)$")]
ExtendedResourceName = Annotated[
    str,
    Field(max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"),
]
SharedMemory = Annotated[
    str,
    Field(max_length=16, pattern=r"^[1-9][0-9]*(Mi|Gi)$"),
    Rule(
        "quantity(self).compareTo(quantity('64Gi')) <= 0",
        "sharedMemory is at most 64Gi",
        holds=lambda self: amount(self) <= amount("64Gi"),
    ),
]


class Gpu(Structure):
    """The GPUs of each replica, as request and limit alike: Kubernetes gives out whole devices."""

    count: GpuCount | None = Field(
        None, description="GPUs per replica; 0 runs on the CPU. Default: the profile's gpu.count. Example: 1."
    )
    resource_name: ExtendedResourceName | None = Field(
        None,
        description="Name under which the nodes offer their GPUs, for example a MIG slice. Default: the profile's "
        "gpu.resourceName. Example: nvidia.com/gpu.",
    )
    memory: GpuMemory | None = Field(
        None,
        description="Memory of one GPU in bytes, as nvidia-smi shows it. A model that needs more is refused before any "
        "GPU is asked for; without a value nothing is refused. Default: the profile's gpu.memory. Example: 24Gi.",
    )


class Resources(Structure):
    """What each replica asks of its node. Whatever is left out comes from the profile."""

    rules = (
        Rule(
            "!has(self.limits) || !has(self.requests) || self.requests.all(k, !(k in self.limits) || "
            "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",
            "a request must not exceed its limit: lower resources.requests or raise resources.limits",
            holds=lambda self: all(
                amount(self.limits.get(key, value)) >= amount(value) for key, value in self.requests.items()
            ),
            field_path=".requests",
        ),
    )

    gpu: Gpu = Field(
        default_factory=Gpu, description="GPUs of each replica. Default: the profile's gpu. Example: {count: 1}."
    )
    requests: Quantities = Field(
        default_factory=dict,
        description="What the scheduler sets aside for each replica: cpu in cores, memory and ephemeral-storage in "
        "bytes. Default: the profile's requests, name by name. Example: {cpu: 500m, memory: 4Gi}.",
    )
    limits: Quantities = Field(
        default_factory=dict,
        description="What each replica may use at most, in the same units. Default: the profile's limits, name by "
        "name. Example: {memory: 8Gi}.",
    )
    shared_memory: SharedMemory | None = Field(
        None,
        description="Size in bytes of /dev/shm in each replica, held in memory and counted as such. Default: the "
        "profile's sharedMemory. Example: 1Gi.",
    )
