import pytest

from inference_server.engine.interface import LoadFailure
from inference_server.models.context import usable_context


def test_the_context_is_the_models_own_up_to_a_cap() -> None:
    assert usable_context(2048, None) == 2048
    assert usable_context(131072, None) == 8192
    assert usable_context(131072, 16384) == 16384
    with pytest.raises(LoadFailure, match="set maxModelLen to 2048 or less") as failure:
        usable_context(2048, 4096)
    assert failure.value.reason == "ContextTooLong"
