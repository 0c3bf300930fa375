"""status.lastFailure names the container that failed last, as long as no later one does."""

from dataclasses import replace

from llmservice_operator.children import Children
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from llmservice_operator.schema import LLMService
from tests.support.builders import (
    NOW,
    caching,
    crashing_pod,
    ended_pod,
    make_llmservice,
    make_settings,
    ready_pod,
    serving,
)

SETTINGS = make_settings()
EARLY, LATE = "2026-01-02T03:02:00Z", "2026-01-02T03:03:00Z"


def last_failure(children: Children, llmservice: LLMService | None = None) -> Manifest | None:
    found: Manifest | None = observe(llmservice or make_llmservice(), children, SETTINGS, NOW).get("lastFailure")
    return found


def crashed(*ends: str) -> Children:
    children = serving(make_llmservice(), SETTINGS)
    assert children.deployment is not None
    pods = [
        crashing_pod(children.deployment, number=number, exitCode=3, finishedAt=at) for number, at in enumerate(ends)
    ]
    return replace(children, pods=tuple(pods))


def test_there_is_none_while_nothing_failed() -> None:
    assert last_failure(serving(make_llmservice(), SETTINGS)) is None


def test_the_latest_of_several_is_told() -> None:
    assert last_failure(crashed(EARLY, LATE)) == {
        "reason": "CrashLoop",
        "message": "Look at the log of container server: it ended with exit code 3",
        "pod": "gemma-1",
        "container": "server",
        "exitCode": 3,
        "time": LATE,
    }


def test_it_stays_when_the_pod_is_gone_and_gives_way_to_a_later_one() -> None:
    known = {"reason": "OutOfMemory", "time": EARLY}
    before = make_llmservice(status={"lastFailure": known})
    assert last_failure(serving(before, SETTINGS), before) == known
    later = last_failure(crashed(LATE), before)
    assert later is not None
    assert later["time"] == LATE


def test_a_container_that_is_ready_again_has_failed_all_the_same() -> None:
    children = serving(make_llmservice(), SETTINGS)
    assert children.deployment is not None
    pod = ready_pod(children.deployment)
    ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": EARLY}
    pod["status"]["containerStatuses"][0] |= {"lastState": {"terminated": ended}, "restartCount": 1}
    found = last_failure(replace(children, pods=(pod,)))
    assert found is not None
    assert (found["reason"], found["exitCode"]) == ("OutOfMemory", 137)


def test_a_replica_that_is_told_to_go_has_not_failed() -> None:
    children = crashed(EARLY)
    (pod,) = children.pods
    going = {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": EARLY}}
    assert last_failure(replace(children, pods=(going,))) is None


def test_a_warmup_tells_its_own_reason() -> None:
    children = caching(make_llmservice(), SETTINGS)
    failure = {"failure": {"reason": "RevisionNotFound", "message": "there is no branch x"}}
    pod = ended_pod(children.jobs[0], failure, exit_code=65)
    pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = EARLY
    found = last_failure(replace(children, pods=(pod,)))
    assert found is not None
    assert (found["reason"], found["container"], found["exitCode"]) == ("RevisionNotFound", "warmup", 65)
