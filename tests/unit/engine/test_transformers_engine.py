"""What the engine decides without torch; what it says is in tests/contract."""

import gc

import pytest

from inference_server.engine.interface import LoadFailure
from inference_server.engine.transformers_engine import uncollected, usable_context


def test_the_context_is_the_models_own_up_to_a_cap() -> None:
    assert usable_context(2048, None) == 2048
    assert usable_context(131072, None) == 8192
    assert usable_context(131072, 16384) == 16384
    with pytest.raises(LoadFailure, match="set maxModelLen to 2048 or less") as failure:
        usable_context(2048, 4096)
    assert failure.value.reason == "ContextTooLong"


def test_the_collector_pauses_for_a_load_and_leaves_alone_what_it_brought() -> None:
    frozen = gc.get_freeze_count()
    try:
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
