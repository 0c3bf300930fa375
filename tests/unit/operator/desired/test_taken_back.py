"""The annotation rollback-to runs an earlier revision, until it goes or the spec changes."""

import pytest

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import desired
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from llmservice_operator.schema import LLMService
from tests.support.builders import NOW, make_llmservice, manifest_of, serving
from tests.support.rollouts import FIRST, SECOND, SETTINGS, THIRD, kept, loading, rolled_back, rolling, settled

BEFORE = serving(FIRST, SETTINGS)
DONE = settled(SECOND, BEFORE)


def revision(children: Children) -> str:
    assert children.deployment is not None
    return str(children.deployment["spec"]["template"]["metadata"]["labels"][names.REVISION_LABEL])


def annotated(llmservice: LLMService, revision: str, **others: str) -> LLMService:
    annotations = {names.ROLLBACK_TO_ANNOTATION: revision, **others}
    metadata = llmservice.metadata.model_copy(update={"annotations": annotations})
    return llmservice.model_copy(update={"metadata": metadata})


def target(llmservice: LLMService, children: Children) -> str:
    deployment = manifest_of(desired(llmservice, children, SETTINGS, NOW).manifests, "Deployment")
    return str(deployment["spec"]["template"]["metadata"]["labels"][names.REVISION_LABEL])


def conditions(llmservice: LLMService, children: Children) -> dict[str, Manifest]:
    return {item["type"]: item for item in observe(llmservice, children, SETTINGS, NOW)["conditions"]}


def gone_back(llmservice: LLMService) -> Children:
    """Return the children once the Deployment has gone back to the first revision."""
    return rolled_back(llmservice, BEFORE, kept(DONE, desired(llmservice, DONE, SETTINGS, NOW)))


def test_it_runs_an_earlier_revision_instead_of_a_good_one_and_says_so() -> None:
    back = annotated(SECOND, revision(BEFORE))
    assert target(back, DONE) == revision(BEFORE)
    found = conditions(back, gone_back(back))
    for kind, status in (("Ready", "False"), ("Stalled", "True"), ("Degraded", "True")):
        assert (found[kind]["status"], found[kind]["reason"]) == (status, "RolledBack")
    assert found["Ready"]["message"].startswith("Remove the annotation, or change the spec: ")
    assert found["Serving"]["status"] == "True"
    rollout = observe(back, gone_back(back), SETTINGS, NOW)["rollout"]
    assert (rollout["currentRevision"], rollout["rejectedRevision"]) == (revision(BEFORE), revision(DONE))


def test_it_stays_back_until_the_annotation_goes() -> None:
    back = annotated(SECOND, revision(BEFORE))
    there = gone_back(back)
    assert target(back, there) == revision(BEFORE)
    assert target(SECOND, there) == revision(DONE)
    once_more = annotated(SECOND, revision(BEFORE))
    assert target(once_more, kept(there, desired(SECOND, there, SETTINGS, NOW))) == revision(BEFORE)


def test_a_retry_goes_forward_and_stays_there() -> None:
    back = annotated(SECOND, revision(BEFORE))
    retried = annotated(SECOND, revision(BEFORE), **{names.RETRY_ANNOTATION: "1"})
    there = gone_back(back)
    assert target(retried, there) == revision(DONE)
    again = kept(there, desired(retried, there, SETTINGS, NOW))
    assert target(retried, again) == revision(DONE)


def test_a_new_spec_rolls_out_at_once_and_stays_when_the_annotation_does() -> None:
    there = gone_back(annotated(SECOND, revision(BEFORE)))
    fixed = annotated(THIRD, revision(BEFORE))
    on_its_way = rolling(fixed, there, loading)
    assert revision(on_its_way) not in (revision(BEFORE), revision(DONE))
    assert target(fixed, kept(on_its_way, desired(fixed, on_its_way, SETTINGS, NOW))) == revision(on_its_way)
    # The spec that was taken back is asked for again, and so is what stands there about it.
    again = settled(fixed, there)
    assert target(annotated(SECOND, revision(BEFORE)), again) == revision(BEFORE)


def test_hold_does_not_hold_what_somebody_asks_for() -> None:
    held = make_llmservice(generation=2, engine={"maxModelLen": 1024}, rollout={"onFailure": "Hold"})
    done = settled(held, BEFORE)
    assert target(annotated(held, revision(BEFORE)), done) == revision(BEFORE)


@pytest.mark.parametrize("name", ["0000000000", "no revision", "🦙"])
def test_a_name_that_is_not_there_changes_nothing_and_is_told_with_those_that_are(name: str) -> None:
    wrong = annotated(SECOND, name)
    assert target(wrong, DONE) == revision(DONE)
    again = kept(DONE, desired(wrong, DONE, SETTINGS, NOW))
    found = conditions(wrong, again)["ConfigurationValid"]
    assert (found["status"], found["reason"]) == ("False", "RevisionNotKept")
    assert found["message"].startswith("Change the annotation llmservice.dev/rollback-to: ")
    assert found["message"].endswith(f"there is {revision(BEFORE)}")
    assert conditions(SECOND, again)["ConfigurationValid"]["status"] == "True"
    assert target(annotated(SECOND, revision(BEFORE)), again) == revision(BEFORE)
