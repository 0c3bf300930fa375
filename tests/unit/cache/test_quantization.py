from inference_server.cache.quantization import expected_size, settings_of
from tests.support.models import config

GEMMA_270M = {"vocab_size": 262144, "hidden_size": 640, "tie_word_embeddings": True}


def test_embeddings_are_not_expected_to_shrink() -> None:
    # Measured: 536 MB of bfloat16 become 388 MB at nf4, because 336 MB of them are the embedding.
    expected = expected_size(GEMMA_270M, 536_223_056, "nf4")

    assert 388_000_000 < expected < 450_000_000


def test_int8_is_expected_to_need_more_than_nf4_and_less_than_the_original() -> None:
    nf4, int8 = expected_size(config(), 10**9, "nf4"), expected_size(config(), 10**9, "int8")

    assert nf4 < int8 < 10**9


def test_whatever_changes_the_bytes_is_a_setting() -> None:
    settings = settings_of("nf4", "auto", double_quant=True)

    assert settings.keys() == {"method", "compute_dtype", "double_quant", "bitsandbytes", "transformers"}
    assert settings != settings_of("nf4", "auto", double_quant=False)
