"""What replicas are given of golden prompts: the prompts themselves, and which revisions have answered them before.

The prompts lie in an immutable ConfigMap that the pod template names, as the environment does. What is proven cannot:
it is known when the pods of a revision run already. It lies beside them, in a ConfigMap that pods can do without.
"""

import json
from collections.abc import Iterable

from llmservice_operator import names
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService

DIRECTORY = "/etc/llmservice/verification"
PROMPTS_FILE = "prompts.json"


def prompts(llmservice: LLMService) -> dict[str, str]:
    """Return the data of the ConfigMap with the prompts; empty where none are asked for."""
    verification = llmservice.spec.rollout.verification
    if verification is None:
        return {}
    document = verification.model_dump(mode="json", by_alias=True)
    return {PROMPTS_FILE: json.dumps(document, sort_keys=True, ensure_ascii=False, indent=1)}


def proven(llmservice: LLMService, revisions: Iterable[str]) -> Manifest:
    """Return the ConfigMap that names the revisions which have passed."""
    metadata = names.metadata(llmservice, name=names.proven(llmservice.name))
    data = dict.fromkeys(sorted(revisions), "")
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def volume(llmservice: LLMService, prompts_name: str) -> tuple[Manifest, Manifest]:
    """Return the volume of both, and its mount."""
    sources = [
        {"configMap": {"name": prompts_name}},
        {"configMap": {"name": names.proven(llmservice.name), "optional": True}},
    ]
    return (
        {"name": "verification", "projected": {"sources": sources}},
        {"name": "verification", "mountPath": DIRECTORY, "readOnly": True},
    )


def revision_variable() -> Manifest:
    """Return the variable that tells a pod its revision: it cannot stand in the template that is hashed into it."""
    path = f"metadata.labels['{names.REVISION_LABEL}']"
    return {"name": "LLMSERVICE_REVISION", "valueFrom": {"fieldRef": {"fieldPath": path}}}
