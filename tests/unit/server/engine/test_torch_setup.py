import gc

from inference_server.engine.torch_setup import uncollected


def test_the_collector_pauses_for_a_load_and_leaves_alone_what_it_brought() -> None:
    frozen = gc.get_freeze_count()
    try:
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
