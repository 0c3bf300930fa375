"""spec.networkPolicy: who may reach the replicas, and whether they may reach anybody."""

from typing import Annotated, Literal

from pydantic import Field

from llmservice_operator.schema.references import SET_LIST
from llmservice_operator.schema.rules import Structure

Namespace = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]


class NetworkPolicy(Structure):
    """NetworkPolicies for the pods. They need a network plugin that enforces them."""

    mode: Literal["None", "Restricted", "Offline"] = Field(
        description="Restricted admits to the serving port the pods of this namespace and of allowFromNamespaces, and "
        "everybody where the Service is reachable from outside. Offline does that too, and lets replicas open no "
        "connection at all, so that no prompt can leave them. None makes no policies. Example: Restricted."
    )
    allow_from_namespaces: Annotated[tuple[Namespace, ...], Field(max_length=32)] = Field(
        (),
        json_schema_extra=SET_LIST,
        description="Other namespaces whose pods may send requests. Default: none. Example: [apps].",
    )
