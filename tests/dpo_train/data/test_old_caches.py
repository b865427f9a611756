"""Token caches of an older version are not silently replaced by caches with other options."""

import shutil
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from dpo_data.errors import PreparedError
from dpo_train.data.caches import training_tokens

FOLDER = Path(__file__).parents[2] / "fixtures" / "prepared-v1" / "text"


def test_training_refuses_an_old_cache_with_the_command_that_makes_it_again(
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(PreparedError) as refusal:
        training_tokens(FOLDER, model="tiny", tokenizer=tiny_tokenizer, key=None, cache_dir=None, options={})
    assert str(refusal.value) == (
        f"{FOLDER}/tokens/0db3652f906a68f5: has format version 1; this program reads version 2.\n"
        f"  Tokenize again: dpo-data tokenize {FOLDER} --tokenizer bytes --max-length 36 --max-prompt-length 12"
    )


def test_training_makes_a_cache_if_the_user_gives_its_options(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "text")
    options = {"max_length": 64}
    cache = training_tokens(folder, model="tiny", tokenizer=tiny_tokenizer, key=None, cache_dir=None, options=options)
    assert (cache.hit, cache.manifest.options.max_length) == (False, 64)
    again = training_tokens(folder, model="tiny", tokenizer=tiny_tokenizer, key=None, cache_dir=None, options={})
    assert again == cache
