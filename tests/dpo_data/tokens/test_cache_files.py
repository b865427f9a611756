"""Where token caches are written, and what failures leave behind."""

import subprocess
import sys

import pytest
from token_caches import ROWS, contents, times

from dpo_data.errors import PreparedError
from dpo_data.prepared.reader import open_prepared
from dpo_data.tokens.cache import find_tokens, list_tokens, open_tokens, tokenize


def test_cache_dir_leaves_a_read_only_prepared_folder_unchanged(make_prepared, byte_tokenizer, tmp_path):
    prepared = make_prepared(ROWS)
    for path in [prepared, *prepared.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = times(prepared)
    cache = tokenize(prepared, tokenizer=byte_tokenizer, cache_dir=tmp_path / "cache")
    assert cache.path.parent == tmp_path / "cache" / "tokens"
    assert list_tokens(open_prepared(prepared), tmp_path / "cache") == [cache]
    assert list_tokens(open_prepared(prepared)) == []
    assert tokenize(prepared, tokenizer=byte_tokenizer, cache_dir=tmp_path / "cache").hit
    assert times(prepared) == before


KILLED = """
import os, signal, sys
import dpo_data.tokens.cache
from dpo_data.tokens.cache import tokenize
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast  # AutoTokenizer loads for seconds more

moment, prepared, tokenizer = sys.argv[1:]
dpo_data.tokens.cache.BATCH_ROWS = 1

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "publishing":
    replace = os.replace
    os.replace = lambda old, new: kill() if str(new).endswith("manifest.json") else replace(old, new)
tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer)
tokenize(prepared, tokenizer=tokenizer, progress=kill if moment == "tokenizing" else lambda fraction, rows: None)
"""


@pytest.mark.parametrize("moment", ["tokenizing", "publishing"])
def test_a_killed_run_leaves_no_cache_and_the_next_run_makes_it(make_prepared, tokenizer_folder, tmp_path, moment):
    prepared = make_prepared(ROWS)
    command = [sys.executable, "-c", KILLED, moment, str(prepared), str(tokenizer_folder)]
    assert subprocess.run(command, check=False).returncode == -9
    [left] = prepared.glob("tokens/*")
    assert any((left / ".partial").iterdir())
    assert (left / "train").is_dir() == (moment == "publishing")
    assert list_tokens(open_prepared(prepared)) == []
    assert find_tokens(prepared, tokenizer=tokenizer_folder) is None
    with pytest.raises(PreparedError, match="is unfinished: a run was stopped"):
        open_tokens(left)
    completed = tokenize(prepared, tokenizer=tokenizer_folder)
    assert (completed.path, completed.hit) == (left, False)
    undisturbed = tokenize(prepared, tokenizer=tokenizer_folder, cache_dir=tmp_path / "cache")
    assert contents(completed.path) == contents(undisturbed.path)


def test_an_interrupted_run_leaves_nothing(make_prepared, byte_tokenizer):
    def stop(fraction: float | None, rows: int) -> None:
        raise KeyboardInterrupt

    prepared = make_prepared(ROWS)
    with pytest.raises(KeyboardInterrupt):
        tokenize(prepared, tokenizer=byte_tokenizer, progress=stop)
    assert list(prepared.glob("tokens/*")) == []


def test_a_cache_with_a_damaged_manifest_is_made_again(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS)
    cache = tokenize(prepared, tokenizer=byte_tokenizer)
    whole = contents(cache.path)
    manifest = cache.path / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    assert find_tokens(prepared, tokenizer=byte_tokenizer) is None
    again = tokenize(prepared, tokenizer=byte_tokenizer)
    assert (again, again.hit) == (cache, False)
    assert contents(again.path) == whole
