"""Every rule, bound and pattern of the CRD on the real API server, with an object that passes and one that fails."""

from collections.abc import Iterator

import pytest

from tests.support.api_client import ApiClient
from tests.support.controlplane import ControlPlane
from tests.support.corpus import Case, cases, llmservice


@pytest.fixture(scope="module")
def api(plane: ControlPlane) -> Iterator[ApiClient]:
    """The default namespace will do: everything here is a dry run."""
    with ApiClient(plane, "default") as api:
        yield api


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_api_server_gives_the_verdict_of_the_corpus(api: ApiClient, case: Case) -> None:
    answer = api.create(llmservice(case.spec), dry_run=True, strict=True)
    assert answer.accepted is not case.refused, answer.message
    assert case.message in answer.message
    assert case.field in answer.message
