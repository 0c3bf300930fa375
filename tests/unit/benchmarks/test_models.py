"""The random models' tokenizer: every word is one token."""

import itertools
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks import models


def test_a_prompt_has_exactly_its_tokens_and_comes_back_from_them(tmp_path: Path) -> None:
    models.write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == models.VOCABULARY_SIZE
    for prompt in itertools.islice(models.prompts(128, seed=1), 50):
        ids = tokenizer.encode(prompt).ids
        assert len(ids) == 128
        assert tokenizer.decode(ids) == prompt


def test_prompts_of_one_seed_are_the_same_and_of_two_differ() -> None:
    first, again, other = (next(models.prompts(8, seed)) for seed in (1, 1, 2))
    assert first == again != other
