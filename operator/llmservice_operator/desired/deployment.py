"""The Deployment that keeps the replicas running."""

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import verification
from llmservice_operator.desired.config_map import API_KEYS_DIRECTORY, ENDPOINT_GRACE_SECONDS, config_map, of_data
from llmservice_operator.desired.effective import Effective
from llmservice_operator.desired.model_facts import ModelFacts
from llmservice_operator.desired.placement import claim_labels, placement
from llmservice_operator.desired.pod_security import container_security, pod_security
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService

TERMINATION_MARGIN_SECONDS = 5
"""Between the end of a server's drain and the kubelet's SIGKILL. Not more: whoever deletes a namespace waits half of a
pod's whole grace period before looking again, however soon the pod has gone.
"""
REVISION_HISTORY_LIMIT = 2
"""ReplicaSets kept at 0 replicas, for people to look at; the operator itself never goes back to one."""


def deployment(llmservice: LLMService, template: Manifest, strategy: Manifest, replicas: int | None) -> Manifest:
    """Return the Deployment that keeps pods of `template`; `replicas` is None while an autoscaler sets them.

    The selector is of fixed labels only, because it is immutable.
    """
    spec: Manifest = {
        "selector": {"matchLabels": names.selector(llmservice.name)},
        "strategy": strategy,
        "progressDeadlineSeconds": llmservice.spec.rollout.progress_deadline_seconds,
        "revisionHistoryLimit": REVISION_HISTORY_LIMIT,
        "template": template,
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": names.metadata(llmservice), "spec": spec}


def pod_template(llmservice: LLMService, values: Effective, facts: ModelFacts, children: Children) -> Manifest:
    """Return the pods' template; its revision label is the hash of all the rest."""
    annotations = {
        names.MODEL_ANNOTATION: facts.annotation(),
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(names.MANAGEMENT_PORT),
        "prometheus.io/path": "/metrics",
    }
    restart = llmservice.metadata.annotations.get(names.RESTART_ANNOTATION)
    if restart:
        annotations[names.RESTART_ANNOTATION] = restart
    labels = names.labels(llmservice.name)
    if facts.source == "cache":
        labels |= claim_labels(facts.claim)
    template: Manifest = {
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": _pod_spec(llmservice, values, facts, children),
    }
    labels[names.REVISION_LABEL] = names.short_hash(template)
    return template


def _pod_spec(llmservice: LLMService, values: Effective, facts: ModelFacts, children: Children) -> Manifest:
    drain_seconds = llmservice.spec.rollout.drain_timeout_seconds
    spec: Manifest = {
        **pod_security(llmservice),
        **placement(values, children, facts.claim if facts.source == "cache" else None),
        # A server counts both of its deadlines from SIGTERM on.
        "terminationGracePeriodSeconds": max(drain_seconds, ENDPOINT_GRACE_SECONDS) + TERMINATION_MARGIN_SECONDS,
        "containers": [_container(llmservice, values, facts)],
        "volumes": [volume for volume, _ in _volumes(llmservice, values, facts)],
    }
    if values.profile.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in values.profile.image_pull_secrets]
    if values.priority_class_name:
        spec["priorityClassName"] = values.priority_class_name
    if values.runtime_class_name:
        spec["runtimeClassName"] = values.runtime_class_name
    return spec


def _container(llmservice: LLMService, values: Effective, facts: ModelFacts) -> Manifest:
    variables = {"env": [verification.revision_variable()]} if llmservice.spec.rollout.verification else {}
    return {
        "name": names.SERVER_CONTAINER,
        "image": values.image,
        "imagePullPolicy": values.profile.image_pull_policy,
        "args": ["serve"],
        **variables,
        "envFrom": [{"configMapRef": {"name": config_map(llmservice, values, facts)["metadata"]["name"]}}],
        "ports": [
            {"name": names.SERVING_PORT_NAME, "containerPort": names.SERVING_PORT, "protocol": "TCP"},
            {"name": names.MANAGEMENT_PORT_NAME, "containerPort": names.MANAGEMENT_PORT, "protocol": "TCP"},
        ],
        # The web process answers /livez within a second of starting and tells a slow load from a hang, so no probe
        # waits for a load.
        "startupProbe": _probe("/livez", period_seconds=1, timeout_seconds=2, failures=120),
        "readinessProbe": _probe("/readyz", period_seconds=1, timeout_seconds=2, failures=3),
        "livenessProbe": _probe("/livez", period_seconds=10, timeout_seconds=5, failures=6),
        "resources": values.resources,
        "securityContext": container_security(),
        "volumeMounts": [mount for _, mount in _volumes(llmservice, values, facts)],
    }


def _probe(path: str, *, period_seconds: int, timeout_seconds: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": names.MANAGEMENT_PORT_NAME, "scheme": "HTTP"},
        "periodSeconds": period_seconds,
        "timeoutSeconds": timeout_seconds,
        "failureThreshold": failures,
    }


def _volumes(llmservice: LLMService, values: Effective, facts: ModelFacts) -> list[tuple[Manifest, Manifest]]:
    """Return each volume of the pod with its mount in the container.

    The model is read-only by its mount and not by its volume: a volume that the warm-up has attached for writing could
    not be attached for reading beside it.
    """
    volumes: list[tuple[Manifest, Manifest]] = [
        (
            {"name": "model", "persistentVolumeClaim": {"claimName": facts.claim}},
            {"name": "model", "mountPath": facts.mount, "readOnly": True},
        ),
        ({"name": "tmp", "emptyDir": {}}, {"name": "tmp", "mountPath": "/tmp"}),  # noqa: S108 - inside the container
    ]
    if values.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": values.shared_memory}
        volumes.append(
            ({"name": "shared-memory", "emptyDir": memory}, {"name": "shared-memory", "mountPath": "/dev/shm"})  # noqa: S108
        )
    auth = llmservice.spec.auth
    if auth is not None and auth.api_keys_secret_ref is not None:
        secret = {"secretName": auth.api_keys_secret_ref.name, "defaultMode": 0o440}
        volumes.append(
            (
                {"name": "api-keys", "secret": secret},
                {"name": "api-keys", "mountPath": API_KEYS_DIRECTORY, "readOnly": True},
            )
        )
    prompts = verification.prompts(llmservice)
    if prompts:
        volumes.append(verification.volume(llmservice, of_data(llmservice, prompts)["metadata"]["name"]))
    return volumes
