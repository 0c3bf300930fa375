"""The Service in front of the replicas."""

from llmservice_operator import names
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService

CLIENT_AFFINITY_SECONDS = 10800
"""How long a client stays with its replica: the API server's own default. Written out, so that it is ours to take away
again.
"""


def service(llmservice: LLMService) -> Manifest:
    """Return the Service; it leads to the public port only, never to the management port."""
    wanted = llmservice.spec.service
    metadata = names.metadata(llmservice)
    if wanted.annotations:
        metadata["annotations"] = dict(wanted.annotations)
    port = {
        "name": names.SERVING_PORT_NAME,
        "port": wanted.port,
        "targetPort": names.SERVING_PORT_NAME,
        "protocol": "TCP",
    }
    spec: Manifest = {
        "type": wanted.type,
        "selector": names.selector(llmservice.name),
        "ports": [port],
        "sessionAffinity": wanted.session_affinity,
    }
    if wanted.session_affinity == "ClientIP":
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": CLIENT_AFFINITY_SECONDS}}
    if wanted.type == "LoadBalancer":
        if wanted.load_balancer_source_ranges:
            spec["loadBalancerSourceRanges"] = list(wanted.load_balancer_source_ranges)
        if wanted.load_balancer_class:
            spec["loadBalancerClass"] = wanted.load_balancer_class
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
