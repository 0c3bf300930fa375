"""Which events a change of status deserves."""

from typing import Any

import pytest

from llmservice_operator.transitions import notices


def status(*conditions: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "conditions": [
            {"type": kind, "status": value, "reason": reason, "message": f"about {reason}"}
            for kind, value, reason in conditions
        ]
    }


FIRST = status(("Ready", "Unknown", "NotYetObserved"))
CACHING = status(
    ("Ready", "False", "Downloading"),
    ("Serving", "False", "NoReadyEndpoints"),
    ("Reconciling", "True", "Caching"),
    ("ConfigurationValid", "True", "Valid"),
    ("ModelCached", "False", "Downloading"),
    ("Paused", "False", "NotPaused"),
)
READY = status(("Ready", "True", "AllReplicasReady"), ("Serving", "True", "EndpointsReady"))
CRASHING = status(
    ("Ready", "False", "CrashLoop"),
    ("Serving", "False", "NoReadyEndpoints"),
    ("Stalled", "True", "CrashLoop"),
    ("Degraded", "True", "CrashLoop"),
)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(FIRST, CACHING, [("Normal", "Caching")], id="a first look tells what begins"),
        pytest.param(CACHING, CACHING, [], id="no change, no event"),
        pytest.param(
            CACHING, READY, [("Normal", "AllReplicasReady"), ("Normal", "EndpointsReady")], id="ready at last"
        ),
        pytest.param(
            READY, CRASHING, [("Normal", "NoReadyEndpoints"), ("Warning", "CrashLoop")], id="one event per reason"
        ),
        pytest.param(
            FIRST,
            status(("ConfigurationValid", "False", "ProfileNotFound"), ("Stalled", "True", "ProfileNotFound")),
            [("Warning", "ProfileNotFound")],
            id="a bad spec at first sight",
        ),
    ],
)
def test_events(before: dict[str, Any], after: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert [(notice.type, notice.reason) for notice in notices(before, after)] == expected


def test_a_warning_is_told_once_and_again_when_it_says_something_else() -> None:
    odd = {"warnings": [{"reason": "UnknownAnnotation", "message": "about a"}]}
    odder = {"warnings": [*odd["warnings"], {"reason": "OpenToEverybody", "message": "about b"}]}
    other = {"warnings": [{"reason": "UnknownAnnotation", "message": "about c"}]}
    told = [notices(*pair) for pair in (({}, odd), (odd, odd), (odd, odder), (odder, odd), (odd, other), (other, {}))]
    assert [[(notice.type, notice.reason, notice.message) for notice in found] for found in told] == [
        [("Warning", "UnknownAnnotation", "about a")],
        [],
        [("Warning", "OpenToEverybody", "about b")],
        [],
        [("Warning", "UnknownAnnotation", "about c")],
        [],
    ]
