"""spec.service and spec.auth: how clients reach the model, and who may."""

from typing import Annotated, Literal

from pydantic import Field

from llmservice_operator.schema.references import ATOMIC_MAP, SET_LIST, Int32, SecretReference
from llmservice_operator.schema.rules import Rule, Structure

SourceRange = Annotated[str, Field(max_length=49, pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]


class Service(Structure):
    """The Kubernetes Service in front of the replicas; it has the name of the LLMService."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        "ClusterIP",
        description="From where the Service can be reached. NodePort and LoadBalancer need spec.auth. Default: "
        "ClusterIP, from inside the cluster only. Example: LoadBalancer.",
    )
    port: Annotated[Int32, Field(ge=1, le=65535)] = Field(
        80, description="TCP port of the Service. Default: 80. Example: 8080."
    )
    session_affinity: Literal["None", "ClientIP"] = Field(
        "None",
        description="Whether a client's requests stay with one replica. Default: None. Example: ClientIP.",
    )
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32)] = Field(
        default_factory=dict,
        description="Annotations of the Service, for the load balancer's controller. The profile may restrict the "
        "keys. Default: none. Example: {networking.gke.io/load-balancer-type: Internal}.",
    )
    load_balancer_source_ranges: tuple[SourceRange, ...] = Field(
        (),
        max_length=32,
        json_schema_extra=SET_LIST,
        description="Client networks in CIDR notation that a LoadBalancer admits. Default: all. Example: "
        "[203.0.113.0/24].",
    )
    load_balancer_class: Annotated[str, Field(max_length=253)] | None = Field(
        None,
        description="Which load balancer controller takes a Service of type LoadBalancer. Default: the cluster's. "
        "Example: service.k8s.aws/nlb.",
    )


class Auth(Structure):
    """Who may send requests."""

    rules = (
        Rule(
            "(self.mode == 'APIKey') == has(self.apiKeysSecretRef)",
            "mode APIKey needs auth.apiKeysSecretRef, and only it takes one",
            holds=lambda self: (self.mode == "APIKey") == (self.api_keys_secret_ref is not None),
        ),
    )

    mode: Literal["APIKey", "Anonymous"] = Field(
        description="APIKey asks every request for a key of the Secret, as 'Authorization: Bearer KEY'. Anonymous "
        "answers everybody, and has to be said for a Service that is reachable from outside. Example: "
        "APIKey.",
    )
    api_keys_secret_ref: SecretReference | None = Field(
        None,
        json_schema_extra=ATOMIC_MAP,
        description="Secret with the API keys: the name of each entry is the tenant, its value one key per line. A "
        "change takes effect within 120 seconds, without a restart. Example: {name: llama-keys}.",
    )
