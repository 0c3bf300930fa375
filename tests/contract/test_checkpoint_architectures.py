from inference_server.checkpoint.architectures import model_types


def test_the_table_read_from_the_source_is_the_one_that_is_imported() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert model_types() == frozenset(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
