"""spec: what a user asks for. One field for each area; the areas have files of their own."""

from typing import Annotated

from pydantic import Field

from llmservice_operator.schema.cache import Cache
from llmservice_operator.schema.disruption import Disruption
from llmservice_operator.schema.engine import Engine
from llmservice_operator.schema.network_policy import NetworkPolicy
from llmservice_operator.schema.references import Flag, Int32
from llmservice_operator.schema.resources import Resources
from llmservice_operator.schema.rollout import Observability, Rollout
from llmservice_operator.schema.rules import Rule, Structure
from llmservice_operator.schema.scaling import Scaling
from llmservice_operator.schema.scheduling import Scheduling
from llmservice_operator.schema.service import Auth, Service
from llmservice_operator.schema.source import LanguageModel
from llmservice_operator.schema.upgrade_policy import UpgradePolicy

ProfileName = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]


class Spec(Structure):
    """What is asked for: a model, and where the defaults do not fit, how it is served."""

    rules = (
        Rule(
            "self.service.type == 'ClusterIP' || has(self.auth)",
            "a service reachable from outside the cluster needs spec.auth: mode APIKey with a Secret of keys, or "
            "mode Anonymous",
            holds=lambda self: self.service.type == "ClusterIP" or self.auth is not None,
            field_path=".service.type",
        ),
    )

    suspend: Flag = Field(
        False,
        description="Whether to stop all replicas and keep the rest (cache, Service, configuration). Setting it back "
        "starts them again. Default: false.",
    )
    paused: Flag = Field(
        False,
        description="Whether the operator keeps its hands off: it writes nothing but the status, so that the "
        "children can be changed by hand. Default: false.",
    )
    replicas: Annotated[Int32, Field(ge=0, le=100)] = Field(
        1,
        description="Number of server pods; 0 is as suspend. Ignored with spec.scaling. `kubectl scale` sets it. "
        "Default: 1. Example: 2.",
    )
    profile: ProfileName = Field(
        "default",
        description="Name of a profile in the operator's configuration. It decides what this spec leaves open and "
        "what it may ask for. Default: default, which the operator's setting defaultProfile resolves. "
        "Example: nvidia.",
    )
    model: LanguageModel = Field(
        description="The language model that is served. Example: {source: {huggingFace: {repo: google/gemma-3-270m}}}."
    )
    engine: Engine = Field(
        default_factory=Engine,
        description="How the model is loaded and batched. Default: quantized to 4 bits, the rest from the profile. "
        "Example: {maxModelLen: 4096}.",
    )
    resources: Resources = Field(
        default_factory=Resources,
        description="What each replica asks of its node. Default: the profile's values. Example: {gpu: {count: 1}, "
        "requests: {memory: 8Gi}}.",
    )
    scheduling: Scheduling = Field(
        default_factory=Scheduling,
        description="On which nodes the pods may run. Default: the profile's values. Example: {nodeSelector: {gpu: "
        "l4}}.",
    )
    cache: Cache = Field(
        default_factory=Cache,
        description="The volume that keeps the downloaded and quantized model. Default: a volume of its own, deleted "
        "with the LLMService. Example: {size: 20Gi, reclaimPolicy: Retain}.",
    )
    service: Service = Field(
        default_factory=Service,
        description="How clients reach the replicas. Default: a ClusterIP Service on port 80. Example: {type: "
        "LoadBalancer}.",
    )
    auth: Auth | None = Field(
        None,
        description="Who may send requests. Default: everybody who reaches the ClusterIP Service. Example: {mode: "
        "APIKey, apiKeysSecretRef: {name: llama-keys}}.",
    )
    scaling: Scaling | None = Field(
        None,
        description="An autoscaler instead of a fixed number of replicas. Default: none, spec.replicas holds. "
        "Example: {provider: HPA, maxReplicas: 4, metrics: [{type: Resource, resource: {name: cpu, "
        "target: {type: Utilization, averageUtilization: 80}}}]}.",
    )
    rollout: Rollout = Field(
        default_factory=Rollout,
        description="How replicas are replaced when the spec changes. Default: one new replica first. Example: "
        "{drainTimeoutSeconds: 300}.",
    )
    upgrade_policy: UpgradePolicy = Field(
        default_factory=UpgradePolicy,
        description="What becomes of the replicas when the operator or its profiles change. Default: they stay as "
        "they are. Example: {mode: Auto}.",
    )
    disruption: Disruption | None = Field(
        None,
        description="A PodDisruptionBudget: how many replicas a drain of nodes may take away at once. Default: none. "
        "Example: {maxUnavailable: 1}.",
    )
    network_policy: NetworkPolicy | None = Field(
        None,
        description="NetworkPolicies: who may reach the replicas, and whether they may reach anybody. Default: none. "
        "Example: {mode: Restricted, allowFromNamespaces: [apps]}.",
    )
    observability: Observability = Field(
        default_factory=Observability,
        description="What replicas tell about themselves. Default: logs as JSON. Example: {logFormat: Text}.",
    )
