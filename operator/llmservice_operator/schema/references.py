"""Small shared types: whole numbers, names of other objects in the namespace, paths inside a volume."""

from typing import Annotated

from pydantic import Field, JsonValue

from llmservice_operator.schema.rules import Rule, Structure

Int32 = Annotated[int, Field(strict=True, json_schema_extra={"format": "int32"})]
Int64 = Annotated[int, Field(strict=True, json_schema_extra={"format": "int64"})]
Flag = Annotated[bool, Field(strict=True)]

ObjectName = Annotated[str, Field(max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]

InnerPath = Annotated[
    str,
    Field(max_length=512, pattern=r"^([^/\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*)?$"),
    Rule(
        "!self.split('/').exists(p, p == '..')",
        "path must stay inside the volume: leave '..' out",
        holds=lambda self: ".." not in self.split("/"),
    ),
]
"""A folder below a volume's root; empty is the root itself."""


class SecretReference(Structure):
    """A Secret in the namespace of the LLMService. Its content is mounted into pods and never read by the operator."""

    name: ObjectName = Field(description="Name of a Secret in the same namespace. Example: llama-keys.")


class SecretKeyReference(Structure):
    """One key of a Secret in the namespace of the LLMService."""

    name: ObjectName = Field(description="Name of a Secret in the same namespace. Example: hugging-face.")
    key: Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z0-9._-]+$")] = Field(
        "token", description="Key inside the Secret that holds the value. Default: token."
    )


ATOMIC_MAP: dict[str, JsonValue] = {"x-kubernetes-map-type": "atomic"}
"""For references: a name of one applier and a key of another would make a reference nobody wrote."""
ATOMIC_LIST: dict[str, JsonValue] = {"x-kubernetes-list-type": "atomic"}
SET_LIST: dict[str, JsonValue] = {"x-kubernetes-list-type": "set"}
