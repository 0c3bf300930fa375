"""The values that hold for one LLMService: what its spec says, and where it says nothing, what its profile says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_operator.desired.quantities import canonical, canonicals
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from llmservice_operator.schema.quantity import amount
from llmservice_operator.settings import Profile, Settings


@dataclass(frozen=True)
class Effective:
    """What the renderer needs beside the spec. Quantities are canonical."""

    profile: Profile
    image: str
    endpoint: str
    """The hub's address; meaningless for other sources."""
    allowed_endpoints: tuple[str, ...]
    """Where a warm-up may be redirected to."""
    gpus: int
    """Per replica."""
    gpu_resource_name: str
    requests: dict[str, str]
    limits: dict[str, str]
    shared_memory: str | None
    max_model_len: int | None
    max_batch_size: int
    max_queue_depth: int
    node_selector: dict[str, str]
    tolerations: list[Manifest]
    runtime_class_name: str | None
    priority_class_name: str | None
    cache_size: str
    storage_class_name: str | None
    access_mode: str
    warmup_backoff_limit: int
    warmup_timeout_seconds: int

    @property
    def resources(self) -> dict[str, dict[str, str]]:
        """The server container's resources, the GPU as request and limit alike."""
        gpu = {self.gpu_resource_name: str(self.gpus)} if self.gpus else {}
        return {"requests": {**self.requests, **gpu}, "limits": {**self.limits, **gpu}}


def effective(llmservice: LLMService, profile: Profile, settings: Settings) -> Effective:
    """Return the values that hold for `llmservice` under `profile`."""
    spec = llmservice.spec
    requests, limits = _bounded(profile.requests, profile.limits, spec.resources.requests, spec.resources.limits)
    hub = spec.model.source.hugging_face
    shared_memory = spec.resources.shared_memory or profile.shared_memory
    return Effective(
        profile=profile,
        image=settings.image(profile),
        endpoint=((hub and hub.endpoint) or settings.default_endpoint).rstrip("/"),
        allowed_endpoints=tuple(settings.allowed_endpoints),
        gpus=_first(spec.resources.gpu.count, profile.gpu.count),
        gpu_resource_name=spec.resources.gpu.resource_name or profile.gpu.resource_name,
        requests=requests,
        limits=limits,
        shared_memory=canonical(shared_memory) if shared_memory else None,
        max_model_len=spec.engine.max_model_len or profile.max_model_len,
        max_batch_size=spec.engine.batching.max_batch_size or profile.max_batch_size,
        max_queue_depth=_first(spec.engine.batching.max_queue_depth, profile.max_queue_depth),
        node_selector={**profile.node_selector, **spec.scheduling.node_selector},
        tolerations=[*profile.tolerations, *(_toleration(item) for item in spec.scheduling.tolerations)],
        runtime_class_name=spec.scheduling.runtime_class_name or profile.runtime_class_name,
        priority_class_name=spec.scheduling.priority_class_name or profile.priority_class_name,
        cache_size=canonical(spec.cache.size or profile.cache_size),
        storage_class_name=spec.cache.storage_class_name or profile.storage_class_name,
        access_mode=spec.cache.access_mode or profile.access_mode,
        warmup_backoff_limit=_first(spec.cache.warmup.backoff_limit, profile.warmup.backoff_limit),
        warmup_timeout_seconds=spec.cache.warmup.timeout_seconds or profile.warmup.timeout_seconds,
    )


def _first(chosen: int | None, otherwise: int) -> int:
    return otherwise if chosen is None else chosen


def _toleration(toleration: Any) -> Manifest:
    body: Manifest = toleration.model_dump(by_alias=True, exclude_none=True)
    return body


def _bounded(
    profile_requests: Mapping[str, str],
    profile_limits: Mapping[str, str],
    spec_requests: Mapping[str, str],
    spec_limits: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, str]]:
    """Return requests and limits, canonical. A profile's value gives way where a request would exceed its limit."""
    requests = {**profile_requests, **spec_requests}
    limits = {**profile_limits, **spec_limits}
    for name in requests.keys() & limits.keys():
        if amount(requests[name]) > amount(limits[name]):
            if name in spec_requests:
                limits[name] = requests[name]
            else:
                requests[name] = limits[name]
    return canonicals(requests), canonicals(limits)
