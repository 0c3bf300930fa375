"""What an answer of the API server means, and how long it asks to be left alone."""

from typing import Any

import pytest

from llmservice_operator.cluster import errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidError),
        (401, errors.UnauthorizedError),
        (403, errors.ForbiddenError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (410, errors.GoneError),
        (415, errors.ApiError),
        (422, errors.InvalidError),
        (429, errors.BusyError),
        (500, errors.BusyError),
        (503, errors.BusyError),
    ],
)
def test_a_status_is_an_error_of_its_own_kind(status: int, kind: type[errors.ApiError]) -> None:
    assert type(errors.from_status(status, {"message": "no"}, {})) is kind


@pytest.mark.parametrize("body", [None, "<html>", [], {}])
def test_an_answer_that_is_no_status_object_still_has_a_message(body: Any) -> None:
    assert errors.from_status(502, body, {}).message == "HTTP status 502"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("1", 1.0),
        ("60", 60.0),
        ("86400", errors.LONGEST_RETRY_AFTER_SECONDS),
        ("Fri, 31 Dec 2027 23:59:59 GMT", None),
        ("-1", None),
        ("²", None),
        ("", None),
    ],
)
def test_retry_after_is_believed_within_bounds(header: str, seconds: float | None) -> None:
    assert errors.from_status(429, None, {"Retry-After": header}).retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("message", "missing"),
    [
        pytest.param(
            'services "llama" is forbidden: User "system:serviceaccount:a:b" cannot patch resource "services" '
            'in API group "" in the namespace "x"',
            ("patch", "services"),
            id="a write",
        ),
        pytest.param(
            'deployments.apps is forbidden: User "a b" cannot watch resource "deployments" in API group "apps" '
            "at the cluster scope",
            ("watch", "deployments.apps"),
            id="a watch",
        ),
        pytest.param(
            'llmservices.llmservice.dev "llama" is forbidden: User "o" cannot patch resource "llmservices/status" '
            'in API group "llmservice.dev" in the namespace "x"',
            ("patch", "llmservices.llmservice.dev/status"),
            id="a subresource",
        ),
        pytest.param('pods "a" is forbidden: exceeded quota: none, requested: pods=1', None, id="quota"),
        pytest.param(
            'services "a" is forbidden: ValidatingAdmissionPolicy says: User "x" cannot patch resource "services" '
            'in API group ""',
            None,
            id="a policy with the same words",
        ),
    ],
)
def test_a_missing_right_is_told_from_other_refusals(message: str, missing: tuple[str, str] | None) -> None:
    error = errors.from_status(403, {"message": message}, {})
    assert isinstance(error, errors.ForbiddenError)
    assert error.missing_right == missing
