"""A rollout played by hand, step by step: under way, gone back, or done."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import Desired, desired
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from tests.support.builders import (
    NOW,
    as_live,
    crashing_pod,
    make_llmservice,
    make_pod,
    make_settings,
    manifest_of,
    ready_pod,
    rolled_out,
)

SETTINGS = make_settings()
FIRST = make_llmservice()
SECOND = make_llmservice(generation=2, engine={"maxModelLen": 1024})
THIRD = make_llmservice(generation=3, engine={"maxModelLen": 2048})
LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
MakePod = Callable[[Manifest], Manifest]


def crashing(deployment: Manifest) -> Manifest:
    return crashing_pod(deployment, number=1, exitCode=3)


def loading(deployment: Manifest) -> Manifest:
    return make_pod(deployment, 1, phase="Running")


def rolling(llmservice: LLMService, before: Children, new_pod: MakePod, **status: Any) -> Children:
    """Return the children while `llmservice` rolls out beside the old pods of `before`, with one new pod."""
    manifests = desired(llmservice, before, SETTINGS, NOW).manifests
    counts = {"replicas": 2, "updatedReplicas": 1, "readyReplicas": 1}
    deployment = rolled_out(as_live(manifest_of(manifests, "Deployment"), generation=2), **{**counts, **status})
    config_maps = [as_live(item) for item in manifests if item["kind"] == "ConfigMap"]
    return replace(
        kept(before, desired(llmservice, before, SETTINGS, NOW)),
        deployment=deployment,
        config_maps=tuple({item["metadata"]["name"]: item for item in (*before.config_maps, *config_maps)}.values()),
        pods=(*before.pods, new_pod(deployment)),
    )


def kept(children: Children, wanted: Desired) -> Children:
    """Return the children with the ControllerRevision that is wanted."""
    fresh = as_live(manifest_of(wanted.manifests, "ControllerRevision"))
    name = fresh["metadata"]["name"]
    others = [item for item in children.revisions if item["metadata"]["name"] != name]
    return replace(children, revisions=(*others, fresh))


def rolled_back(llmservice: LLMService, before: Children, failing: Children) -> Children:
    """Return the children once the Deployment has gone back and only the old pods are left."""
    wanted = desired(llmservice, failing, SETTINGS, NOW)
    deployment = rolled_out(as_live(manifest_of(wanted.manifests, "Deployment"), generation=3))
    return replace(kept(failing, wanted), deployment=deployment, pods=before.pods)


def settled(llmservice: LLMService, before: Children) -> Children:
    """Return the children when `llmservice` has replaced what was there."""
    rolled = rolling(llmservice, before, ready_pod)
    assert rolled.deployment is not None
    deployment = rolled_out({**rolled.deployment, "status": {}})
    others = tuple(pod for pod in before.pods if pod["metadata"]["labels"].get(names.COMPONENT_LABEL) != names.SERVER)
    done = replace(rolled, deployment=deployment, pods=(*others, ready_pod(deployment)))
    return kept(done, desired(llmservice, done, SETTINGS, NOW))
