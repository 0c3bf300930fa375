"""spec.cache: the volume that keeps a downloaded and quantized model."""

from typing import Annotated, Literal

from pydantic import Field

from llmservice_operator.schema.references import Int32, ObjectName
from llmservice_operator.schema.rules import Structure

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany"]
CacheSize = Annotated[str, Field(max_length=16, pattern=r"^[1-9][0-9]{0,5}(Mi|Gi|Ti)$")]


class Warmup(Structure):
    """The Job that fills the cache before any serving pod starts."""

    backoff_limit: Annotated[Int32, Field(ge=0, le=20)] | None = Field(
        None,
        description="How often a failed attempt is repeated before the Job gives up. Failures that repeating cannot "
        "cure end it at once. Default: the profile's warmup.backoffLimit. Example: 3.",
    )
    timeout_seconds: Annotated[Int32, Field(ge=60, le=86400)] | None = Field(
        None,
        description="Seconds that download and quantization may take, all attempts together. Default: the profile's "
        "warmup.timeoutSeconds. Example: 7200.",
    )


class Cache(Structure):
    """The PersistentVolumeClaim that keeps the model's files. Not used with sources pvc and image."""

    claim_name: ObjectName | None = Field(
        None,
        description="Existing PersistentVolumeClaim in the same namespace to use as cache; several LLMServices may "
        "share one. The other fields about the volume then do not apply. Default: a claim of its own. "
        "Example: shared-models.",
    )
    size: CacheSize | None = Field(
        None,
        description="Size of the volume in bytes; it must hold the download and the quantized copy. A size smaller "
        "than the volume has is ignored. Default: the profile's cacheSize. Example: 20Gi.",
    )
    storage_class_name: Annotated[str, Field(max_length=253)] | None = Field(
        None,
        description="StorageClass of the volume. Another class makes another volume beside the old one. Default: the "
        "profile's storageClassName, else the cluster's default class. Example: fast-ssd.",
    )
    access_mode: AccessMode | None = Field(
        None,
        description="How nodes may mount the volume. ReadWriteOnce keeps all pods of the LLMService on one node. "
        "Default: the profile's accessMode. Example: ReadWriteMany.",
    )
    reclaim_policy: Literal["Delete", "Retain"] = Field(
        "Delete",
        description="What becomes of the volume when the LLMService is deleted. A retained one is taken up again by "
        "an LLMService of the same name. Default: Delete. Example: Retain.",
    )
    warmup: Warmup = Field(
        default_factory=Warmup,
        description="Limits of the Job that fills the cache. Default: the profile's warmup. Example: "
        "{timeoutSeconds: 7200}.",
    )
