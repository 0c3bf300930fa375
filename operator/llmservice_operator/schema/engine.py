"""spec.engine: how the model is loaded and batched."""

from typing import Annotated, Literal

from pydantic import Field

from llmservice_operator.schema.references import Flag, Int32
from llmservice_operator.schema.rules import Structure

QuantizationMethod = Literal["Auto", "BitsAndBytesNF4", "BitsAndBytesFP4", "BitsAndBytesInt8", "None"]
ComputeDtype = Literal["Auto", "BFloat16", "Float16", "Float32"]


class Quantization(Structure):
    """How the weights are stored in memory."""

    method: QuantizationMethod = Field(
        "Auto",
        description="Number format of the weights. Auto takes what the checkpoint was quantized with, else "
        "BitsAndBytesNF4 (4 bits); None keeps the checkpoint's own precision. Default: Auto. Example: "
        "BitsAndBytesInt8.",
    )
    compute_dtype: ComputeDtype = Field(
        "Auto",
        description="Number format of the arithmetic. Auto takes what the checkpoint names, if the device can do it. "
        "Default: Auto. Example: BFloat16.",
    )
    double_quant: Flag = Field(
        True,
        description="Whether 4-bit methods quantize their scales as well, which saves about 0.4 bits per weight. "
        "Other methods ignore it. Default: true.",
    )


class Batching(Structure):
    """How many requests a replica takes at once."""

    max_batch_size: Annotated[Int32, Field(ge=1, le=256)] | None = Field(
        None,
        description="Sequences that one replica generates at the same time. More need more memory for their KV "
        "cache. Default: the profile's maxBatchSize. Example: 8.",
    )
    max_queue_depth: Annotated[Int32, Field(ge=0, le=10000)] | None = Field(
        None,
        description="Requests that may wait at one replica beside those that run; further ones are answered 429 with "
        "Retry-After. Default: the profile's maxQueueDepth. Example: 64.",
    )


class Engine(Structure):
    """The inference engine of each replica."""

    quantization: Quantization = Field(
        default_factory=Quantization,
        description="How the weights are stored in memory. Default: the checkpoint's own method, else 4-bit NF4. "
        "Example: {method: BitsAndBytesNF4}.",
    )
    max_model_len: Annotated[Int32, Field(ge=128, le=10_000_000)] | None = Field(
        None,
        description="Longest sequence in tokens, prompt and answer together. Default: the profile's maxModelLen, "
        "else what the model's own configuration says, at most 8192. Example: 4096.",
    )
    batching: Batching = Field(
        default_factory=Batching,
        description="How many requests a replica takes at once. Default: the profile's values. Example: "
        "{maxBatchSize: 8, maxQueueDepth: 64}.",
    )
