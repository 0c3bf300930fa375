"""What of a model decides how much memory it needs, as a warm-up reads it from the checkpoint's headers.

Like the verdict that it is part of, it is data from outside; unlike the rest of it, nothing is lost without it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler

Quantization = Literal["nf4", "fp4", "int8", "none"]
Count = Annotated[int, Field(ge=0, le=1 << 50)]


class ModelShape(BaseModel):
    """Counts of numbers, whatever bytes a spec gives each of them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    linear_weights: Count
    """In the matrices that quantization stores in fewer bits."""
    widest_linear: Count
    """In the largest of these."""
    other_weights: Count
    """In everything else: embeddings, the output head, norms, biases."""
    quantization: Quantization
    """How the checkpoint stores the matrices; only "none" can be quantized otherwise."""
    dtype: Literal["bfloat16", "float16", "float32"] | None = None
    """What the checkpoint's config names."""
    kv_numbers: Count
    """That the KV memory holds of a token, in all layers."""
    context: Annotated[int, Field(ge=1, le=1 << 40)]
    """Tokens that the model was made for."""
    vocabulary: Count
    row_numbers: Count
    """That a layer computes of a token, beside each other."""


def or_none(value: Any, validated: ValidatorFunctionWrapHandler) -> ModelShape | None:
    """Return the shape that `value` describes, or None: a warm-up of another version may describe it otherwise."""
    try:
        shape: ModelShape | None = validated(value)
    except ValidationError:
        return None
    return shape


def of_text(text: str | None) -> ModelShape | None:
    """Return the shape in an annotation, or None where there is none that can be read."""
    try:
        return ModelShape.model_validate_json(text or "")
    except ValidationError:
        return None
