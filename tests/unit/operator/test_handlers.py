"""kopf is only a shell."""

from itertools import islice

import kopf

from llmservice_operator.handlers import LONGEST_BACKOFF_SECONDS, JitteredBackoffs, configure


def test_back_offs_never_end_and_begin_anew_for_each_request() -> None:
    backoffs = JitteredBackoffs()
    for _ in range(2):
        first, *_, last = islice(backoffs, 100)
        assert 0.5 <= first <= 1.0
        assert LONGEST_BACKOFF_SECONDS / 2 <= last <= LONGEST_BACKOFF_SECONDS


def test_kopf_is_kept_from_writing_and_from_giving_up() -> None:
    settings = kopf.OperatorSettings()
    configure(settings)
    assert settings.posting.enabled is False
    assert settings.scanning.disabled is True
    assert settings.persistence.finalizer == "llmservice.dev/kopf"
    assert isinstance(settings.networking.error_backoffs, JitteredBackoffs)
