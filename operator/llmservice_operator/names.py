"""Every name the operator gives to something: API group, labels, annotations, ports, field managers, children.

A name is derived and never drawn, so that a later run, or another replica of the operator, recognises what an earlier
one made. Everything else imports this module, so it imports nothing of ours and nothing heavy.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol

GROUP: Final = "llmservice.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "LLMService"
LIST_KIND: Final = "LLMServiceList"
PLURAL: Final = "llmservices"
SINGULAR: Final = "llmservice"
SHORT_NAMES: Final = ("llm", "llms")
CATEGORIES: Final = ("ai",)
CRD_NAME: Final = f"{PLURAL}.{GROUP}"

# Three managers, so that the API server keeps apart what we own: the bodies of the children, the status, and the
# replicas of a Deployment while an autoscaler takes them over or gives them back.
FIELD_MANAGER: Final = "llmservice-operator"
STATUS_FIELD_MANAGER: Final = "llmservice-operator-status"
REPLICAS_FIELD_MANAGER: Final = "llmservice-operator-replicas"

Component = Literal["server", "warmup", "sweep"]
SERVER: Final[Component] = "server"
WARMUP: Final[Component] = "warmup"
SWEEP: Final[Component] = "sweep"

APP_NAME: Final = "llmservice"
NAME_LABEL: Final = "app.kubernetes.io/name"
INSTANCE_LABEL: Final = "app.kubernetes.io/instance"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
REVISION_LABEL: Final = f"{GROUP}/revision"

APPLIED_HASH_ANNOTATION: Final = f"{GROUP}/applied-hash"
"""On every child: the hash of the body that was applied last."""
CACHED_ANNOTATION: Final = f"{GROUP}/cached"
"""On our own PVC: JSON object from warm-up key to the verdict of its Job."""
LEFTOVERS_ANNOTATION: Final = f"{GROUP}/leftovers"
"""On our own PVC: what may be on the volume beside the models of CACHED_ANNOTATION, until a sweep has removed it;
paths and warm-up keys, separated by spaces.
"""
MODEL_ANNOTATION: Final = f"{GROUP}/model"
"""On the pod template: JSON object with the facts of the model that its pods load."""
OUTCOME_ANNOTATION: Final = f"{GROUP}/outcome"
"""On a ControllerRevision: JSON object that says what came of the revision."""
IN_PLACE_ANNOTATION: Final = f"{GROUP}/in-place"
"""On a ControllerRevision: why its rollout lets old replicas make room for the new ones."""
VOLUME_UID_ANNOTATION: Final = f"{GROUP}/volume-uid"
"""On a Job: the uid of the PVC that it fills or sweeps. A verdict about another volume does not count."""
VOLUME_SIZE_ANNOTATION: Final = f"{GROUP}/volume-size"
"""On a warm-up Job: the capacity of that PVC when the Job was made. What did not fit is tried again when it grows."""
APPLIED_UPDATE_ANNOTATION: Final = f"{GROUP}/applied-update"
"""On a ControllerRevision: the value of APPLY_UPDATE_ANNOTATION that it knows of."""
SHAPE_ANNOTATION: Final = f"{GROUP}/model-shape"
"""On a ControllerRevision: JSON object that says what decides how much memory its model needs."""
APPLY_UPDATE_ANNOTATION: Final = f"{GROUP}/apply-update"
"""On an LLMService, written by people: any new value applies the update that is pending."""
RESTART_ANNOTATION: Final = f"{GROUP}/restart"
"""On an LLMService, written by people: any new value rolls the pods."""
KNOWN_ROLLBACK_ANNOTATION: Final = f"{GROUP}/known-rollback-to"
"""On a ControllerRevision: the value of ROLLBACK_TO_ANNOTATION that it knows of."""
ROLLBACK_TO_ANNOTATION: Final = f"{GROUP}/rollback-to"
"""On an LLMService, written by people: the name of an earlier revision that is to run instead of the one that the spec
asks for now.
"""
RETRY_ANNOTATION: Final = f"{GROUP}/retry"
"""On an LLMService, written by people: any new value tries a rejected revision once more."""
PEOPLES_ANNOTATIONS: Final = (APPLY_UPDATE_ANNOTATION, RESTART_ANNOTATION, RETRY_ANNOTATION, ROLLBACK_TO_ANNOTATION)
"""Those that mean something on an LLMService."""

SERVING_PORT: Final = 8000
SERVING_PORT_NAME: Final = "http"
MANAGEMENT_PORT: Final = 9090
MANAGEMENT_PORT_NAME: Final = "management"
SERVER_CONTAINER: Final = "server"
WARMUP_CONTAINER: Final = "warmup"
SWEEP_CONTAINER: Final = "sweep"

LEASE: Final = "llmservice-operator"
"""The Lease, in the operator's own namespace."""
OPERATOR_PORT: Final = 8080
"""Where the operator itself answers /healthz, /readyz and /metrics."""

SHORT_HASH_LENGTH: Final = 10
"""Hex digits of a hash inside a name: 45 of the LLMService, 8 of "-warmup-" and these make 63, the limit of a label's
value."""


class Identified(Protocol):
    """What naming needs to know of an LLMService; `schema.LLMService` has it."""

    @property
    def name(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def uid(self) -> str: ...


def selector(name: str, component: Component = SERVER) -> dict[str, str]:
    """Return the labels that tell the pods of one component of the LLMService `name` from all others.

    A Deployment's selector is immutable, so these labels are fixed: nothing a user or a revision can change is among
    them.
    """
    return {NAME_LABEL: APP_NAME, INSTANCE_LABEL: name, COMPONENT_LABEL: component}


def component(manifest: Mapping[str, Any]) -> str | None:
    """Return which component an object belongs to, as its labels say; None where they do not."""
    found: str | None = manifest["metadata"].get("labels", {}).get(COMPONENT_LABEL)
    return found


def labels(name: str, component: Component = SERVER) -> dict[str, str]:
    """Return the labels of a child: its selector and who manages it."""
    return {**selector(name, component), MANAGED_BY_LABEL: FIELD_MANAGER}


CHILDREN_LABEL_SELECTOR: Final = f"{NAME_LABEL}={APP_NAME},{MANAGED_BY_LABEL}={FIELD_MANAGER}"
"""The label selector of the watches: children of every LLMService, nothing else."""


def owner_reference(llmservice: Identified) -> dict[str, Any]:
    """Return the reference that makes `llmservice` the controller of a child, so that the child is collected with it.

    `blockOwnerDeletion` asks for the right to update the owner's finalizers, which RBAC grants.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": llmservice.name,
        "uid": llmservice.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def metadata(
    llmservice: Identified, *, name: str | None = None, component: Component = SERVER, owned: bool = True
) -> dict[str, Any]:
    """Return the metadata of a child of `llmservice`, named like it unless `name` says otherwise.

    `owned=False` leaves the owner reference out: for a retained PVC, which outlives its LLMService.
    """
    body: dict[str, Any] = {
        "name": name or llmservice.name,
        "namespace": llmservice.namespace,
        "labels": labels(llmservice.name, component),
    }
    if owned:
        body["ownerReferences"] = [owner_reference(llmservice)]
    return body


def short_hash(value: object) -> str:
    """Return the hash of a JSON value as it appears in names: equal values, equal hashes, in whatever order their keys
    are."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:SHORT_HASH_LENGTH]


def deployment(name: str) -> str:
    """Return the name of the Deployment of the LLMService `name`."""
    return name


def service(name: str) -> str:
    """Return the name of the Service, and so the host under which the LLMService `name` answers in its namespace."""
    return name


def autoscaler(name: str) -> str:
    """Return the name of the HorizontalPodAutoscaler of the LLMService `name`."""
    return name


def controller_revision(name: str, revision: str) -> str:
    """Return the name of the ControllerRevision that keeps a `revision`, which is a short hash."""
    return f"{name}-{revision}"


def service_account(name: str) -> str:
    """Return the name of the account that the pods of the LLMService `name` run as."""
    return f"{name}-{APP_NAME}"


def disruption_budget(name: str) -> str:
    """Return the name of the PodDisruptionBudget of the LLMService `name`."""
    return name


def network_policy(name: str, component: Component) -> str:
    """Return the name of the NetworkPolicy around the pods of one component of the LLMService `name`."""
    return f"{name}-{component}"


def config_map(name: str, content_hash: str) -> str:
    """Return the name of the immutable ConfigMap whose data has `content_hash`."""
    return f"{name}-config-{content_hash}"


def proven(name: str) -> str:
    """Return the name of the ConfigMap that tells which revisions of the LLMService `name` answered its prompts."""
    return f"{name}-proven"


def warmup_job(name: str, warmup_key: str) -> str:
    """Return the name of the Job that fills the cache for `warmup_key`, which is a short hash."""
    return f"{name}-warmup-{warmup_key}"


def sweep_job(name: str, content_hash: str) -> str:
    """Return the name of the Job that removes from the cache what is not needed, as `content_hash` says."""
    return f"{name}-sweep-{content_hash}"


def cache_claim(name: str, volume_hash: str | None = None) -> str:
    """Return the name of the cache's PVC.

    `volume_hash` is the short hash of storage class and access mode where they differ from the profile's: neither can
    be changed in a PVC, so another choice is another PVC, made beside the old one.
    """
    return f"{name}-cache" if volume_hash is None else f"{name}-cache-{volume_hash}"
