"""What users see of a change that is taken back."""

from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from tests.support.builders import NOW, serving
from tests.support.rollouts import FIRST, SECOND, SETTINGS, crashing, rolled_back, rolling, settled


def conditions(status: Manifest) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}


def test_a_change_that_is_being_taken_back_moves() -> None:
    failing = rolling(SECOND, serving(FIRST, SETTINGS), crashing)
    status = observe(SECOND, failing, SETTINGS, NOW)
    found = conditions(status)
    assert found["Reconciling"] == ("True", "RollingBack")
    assert found["Ready"] == ("False", "RolledBack")
    assert found["Degraded"] == ("True", "RolledBack")
    assert found["Serving"] == ("True", "EndpointsReady")
    assert "Stalled" not in found
    assert status["phase"] == "RollingBack"


def test_a_change_that_was_taken_back_waits_for_somebody_while_the_old_replicas_serve() -> None:
    before = serving(FIRST, SETTINGS)
    back = rolled_back(SECOND, before, rolling(SECOND, before, crashing))
    status = observe(SECOND, back, SETTINGS, NOW)
    found = conditions(status)
    assert found["Stalled"] == ("True", "RolledBack")
    assert found["Ready"] == ("False", "RolledBack")
    assert found["Serving"] == ("True", "EndpointsReady")
    assert "Reconciling" not in found
    assert (status["phase"], status["readySummary"]) == ("Degraded", "1/1")
    said = next(item["message"] for item in status["conditions"] if item["type"] == "Degraded")
    rollout = status["rollout"]
    assert said == (
        f"Change the spec: its revision {rollout['rejectedRevision']} was taken back: Look at the log of container "
        "server: it ended with exit code 3"
    )
    assert rollout["currentRevision"] == rollout["updatedRevision"] == rollout["lastGoodRevision"]
    assert [(item["revision"], item["result"], item.get("reason")) for item in rollout["history"]] == [
        (rollout["lastGoodRevision"], "Good", None),
        (rollout["rejectedRevision"], "Rejected", "CrashLoop"),
    ]


def test_the_model_in_the_status_is_the_one_that_runs() -> None:
    before = serving(FIRST, SETTINGS)
    back = rolled_back(SECOND, before, rolling(SECOND, before, crashing))
    was = observe(FIRST, before, SETTINGS, NOW)["model"]
    assert observe(SECOND, back, SETTINGS, NOW)["model"] == was


def test_a_good_change_is_the_last_good_one() -> None:
    children = settled(SECOND, serving(FIRST, SETTINGS))
    status = observe(SECOND, children, SETTINGS, NOW)
    assert conditions(status)["Ready"] == ("True", "AllReplicasReady")
    assert status["rollout"]["lastGoodRevision"] == status["rollout"]["currentRevision"]
    assert "rejectedRevision" not in status["rollout"]
