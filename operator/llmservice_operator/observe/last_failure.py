"""status.lastFailure: how the container ended that failed last, kept when its pod is gone."""

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.conditions import Reason, shortened
from llmservice_operator.diagnosis import pods
from llmservice_operator.manifest import Manifest, is_being_deleted
from llmservice_operator.schema import LLMService


def last_failure(llmservice: LLMService, children: Children) -> Manifest | None:
    """Return the last failure of a server or a warm-up, or None while there was none."""
    before: Manifest | None = llmservice.status.get("lastFailure")
    here = [pod for pod in children.pods if not is_being_deleted(pod)]
    found = [failure for failure in (before, *map(_failure, here)) if failure is not None]
    return max(found, key=lambda failure: str(failure.get("time", "")), default=None)


def _failure(pod: Manifest) -> Manifest | None:
    is_server = pods.is_server(pod)
    container = names.SERVER_CONTAINER if is_server else names.WARMUP_CONTAINER
    trouble = pods.why_it_ended(pod, container, Reason.CRASH_LOOP if is_server else Reason.WARMUP_FAILED)
    ended = pods.last_end(pod, container)
    if trouble is None or not ended.get("finishedAt"):  # The API server says null where the kubelet says nothing.
        return None
    return {
        "reason": trouble.reason.value,
        "message": shortened(trouble.message),
        "pod": pod["metadata"]["name"],
        "container": container,
        "exitCode": ended.get("exitCode", 0),
        "time": ended["finishedAt"],
    }
