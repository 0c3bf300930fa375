"""Which live children are to go. What a user has a right to keep, a volume above all, goes only when nothing can need
it any more.
"""

from llmservice_operator.children import Children
from llmservice_operator.desired import model_facts, revisions, rollback
from llmservice_operator.desired.cached_model import CachedModel
from llmservice_operator.desired.replicas import is_autoscaled
from llmservice_operator.desired.rollback import Choice
from llmservice_operator.desired.sweep_job import is_sweep
from llmservice_operator.manifest import Manifest, is_being_deleted
from llmservice_operator.schema import LLMService


def surplus_jobs(cache: CachedModel | None, children: Children) -> list[Manifest]:
    """Return the warm-ups of models that are not asked for any more, and those about a volume that is gone."""
    wanted = cache.job["metadata"]["uid"] if cache is not None and cache.job is not None else None
    return [job for job in children.jobs if job["metadata"]["uid"] != wanted and not is_sweep(job)]


def surplus_revisions(llmservice: LLMService, choice: Choice | None, children: Children) -> list[Manifest]:
    """Return the ControllerRevisions that are not kept any more."""
    gone = rollback.surplus(choice, children, llmservice.spec.rollout.revision_history_limit)
    return [item for item in children.revisions if revisions.name_of(item) in gone]


def surplus_config_maps(wanted: list[Manifest], gone: list[Manifest], children: Children) -> list[Manifest]:
    """Return the ConfigMaps that neither the Deployment, nor any pod, nor a revision that is kept takes its environment
    or its prompts from; `gone` are the revisions that are not.

    A pod of an older revision may restart until it is gone, so it keeps its configuration until then.
    """
    used = {item["metadata"]["name"] for item in wanted}
    for revision in children.revisions:
        if revision not in gone:
            used |= _config_maps(revision.get("data", {}).get("template", {}))
    if children.deployment is not None:
        used |= _config_maps(children.deployment["spec"]["template"])
    for pod in children.pods:
        used |= _config_maps(pod)
    return [item for item in children.config_maps if item["metadata"]["name"] not in used]


def surplus_claims(llmservice: LLMService, cache: CachedModel | None, children: Children) -> list[Manifest]:
    """Return the volumes of another storage class or access mode, once the one asked for is warm and all pods are on
    it.
    """
    if cache is None or cache.is_shared or cache.facts is None or llmservice.spec.cache.reclaim_policy != "Delete":
        return []
    live = model_facts.of_deployment(children.deployment)
    mounted = {claim for pod in children.pods for claim in _claims(pod)}
    if live is None or live.claim != cache.claim:
        return []
    return [item for item in children.claims if item["metadata"]["name"] not in {cache.claim, *mounted}]


def surplus_autoscaler(llmservice: LLMService, children: Children) -> list[Manifest]:
    """Return the autoscaler when replicas are fixed, or all stopped."""
    if children.autoscaler is None or is_autoscaled(llmservice):
        return []
    return [children.autoscaler]


def surplus_disruption_budget(llmservice: LLMService, children: Children) -> list[Manifest]:
    """Return the budget when the spec asks for none."""
    if children.disruption_budget is None or llmservice.spec.disruption is not None:
        return []
    return [children.disruption_budget]


def surplus_network_policies(wanted: list[Manifest], children: Children) -> list[Manifest]:
    """Return the NetworkPolicies that are not wanted any more."""
    kept = {item["metadata"]["name"] for item in wanted}
    return [item for item in children.network_policies if item["metadata"]["name"] not in kept]


def not_going(manifests: list[Manifest]) -> tuple[Manifest, ...]:
    """Return those that are not being deleted already."""
    return tuple(item for item in manifests if not is_being_deleted(item))


def _config_maps(pod: Manifest) -> set[str]:
    containers = pod.get("spec", {}).get("containers", ())
    sources = [source for container in containers for source in container.get("envFrom", ())]
    projected = [volume["projected"] for volume in pod.get("spec", {}).get("volumes", ()) if "projected" in volume]
    mounted = [source["configMap"] for volume in projected for source in volume["sources"] if "configMap" in source]
    referred = [source["configMapRef"] for source in sources if "configMapRef" in source]
    return {reference["name"] for reference in (*referred, *mounted)}


def _claims(pod: Manifest) -> set[str]:
    volumes = pod.get("spec", {}).get("volumes", ())
    return {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume}
