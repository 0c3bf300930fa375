from typing import Any

import pytest

from inference_server.checkpoint.context import context_of


@pytest.mark.parametrize(
    ("config", "context"),
    [
        pytest.param({"max_position_embeddings": 4096}, 4096, id="plain"),
        pytest.param({"n_positions": 1024}, 1024, id="GPT-2's name"),
        pytest.param({}, 2048, id="no name"),
        pytest.param({"text_config": {"max_position_embeddings": 512}}, 512, id="language part of a larger model"),
        pytest.param(
            {"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            131072,
            id="Llama 3's scaling is in the number",
        ),
        pytest.param(
            {
                "max_position_embeddings": 131072,
                "original_max_position_embeddings": 4096,
                "rope_scaling": {"type": "longrope"},
            },
            4096,
            id="LongRoPE up to its original length",
        ),
        pytest.param(
            {
                "max_position_embeddings": 32768,
                "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
            id="YaRN that is not in the number",
        ),
        pytest.param(
            {
                "max_position_embeddings": 163840,
                "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
            },
            163840,
            id="YaRN that is",
        ),
        pytest.param(
            {
                "max_position_embeddings": 4096,
                "rope_scaling": {"type": "yarn", "factor": "4", "original_max_position_embeddings": 4096},
            },
            4096,
            id="a factor that is no number",
        ),
        pytest.param({"max_position_embeddings": 4096, "rope_scaling": "yarn"}, 4096, id="no description at all"),
    ],
)
def test_the_context_that_a_model_has_learned(config: dict[str, Any], context: int) -> None:
    assert context_of(config) == context
