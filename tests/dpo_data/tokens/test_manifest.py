"""The manifest of a token cache: counts that must agree, and totals of several parts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from token_caches import ROWS, pair

from dpo_data.errors import PreparedError
from dpo_data.tokens.cache import open_tokens, tokenize
from dpo_data.tokens.manifest import Remark, TokenCounts


@pytest.fixture
def cache(make_prepared: Callable[..., Path], byte_tokenizer: Any) -> Path:
    """A token cache of three pairs, with a fourth that is dropped."""
    rows = [*ROWS, pair("Hi", "same start, good end", "same start, bad end")]
    return tokenize(make_prepared(rows), tokenizer=byte_tokenizer, max_length=10).path


def counts(manifest: dict[str, Any], *, of: str) -> dict[str, Any]:
    shard: dict[str, Any] = manifest["shards"]["train"][0]["counts"]
    return shard if of == "shard" else manifest["splits"]["train"]


@pytest.mark.parametrize(
    ("of", "count", "value", "sum_"),
    [
        ("split", "pairs", 2, "pairs_read is 4, but pairs + dropped give 3"),
        ("split", "dropped", {"too_long": 2}, "pairs_read is 4, but pairs + dropped give 5"),
        ("shard", "pairs_read", 5, "pairs_read is 5, but pairs + dropped give 4"),
        ("split", "dropped", {"too_long": 1}, "dropped of train is {'too_long': 1}, but its shards give"),
        ("split", "prompt_tokens", 1, "prompt_tokens of train is 1, but its shards give"),
        ("shard", "longest_pair", 9, "longest_pair of train is 10, but its shards give 9"),
    ],
)
def test_a_manifest_that_does_not_add_up_is_refused_with_the_file_and_the_sum(cache, of, count, value, sum_):
    manifest = json.loads((cache / "manifest.json").read_text())
    counts(manifest, of=of)[count] = value
    (cache / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PreparedError) as refusal:
        open_tokens(cache)
    assert str(refusal.value).startswith(f"{cache}/manifest.json: does not add up: {sum_}")
    assert str(refusal.value).endswith("\n  Make it again: dpo-data tokenize.")


def test_splits_and_files_that_contradict_the_shards_are_refused(cache):
    whole = json.loads((cache / "manifest.json").read_text())
    no_shards = {**whole, "shards": {}}
    no_file = {**whole, "files": {name: entry for name, entry in whole["files"].items() if ".arrow" not in name}}
    for manifest, message in (
        (no_shards, "splits are train, but shards are of no split"),
        (no_file, r"train/data-00000-of-00001\.arrow is a shard, but not in files"),
    ):
        (cache / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(PreparedError, match=message):
            open_tokens(cache)


def test_the_total_of_parts_sums_counts_and_keeps_the_longest_pair_and_the_first_refusal():
    def part(pairs: int, longest: int, dropped: dict[str, int], refusals: dict[str, str]) -> TokenCounts:
        apart = {"pairs", "pairs_read", "dropped", "longest_pair", "refusals", "remarks"}
        names = set(TokenCounts.model_fields) - apart
        return TokenCounts(
            pairs_read=pairs + sum(dropped.values()),
            pairs=pairs,
            dropped=dropped,
            longest_pair=longest,
            refusals=refusals,
            remarks={"eos_appended": Remark(pairs=pairs, quote=f"<{pairs}>")},
            **dict.fromkeys(names, pairs),
        )

    first = part(2, 30, {"too_long": 1}, {"template_refused": "roles must alternate"})
    second = part(5, 20, {"too_long": 2, "empty_prompt": 1}, {"template_refused": "no system"})
    total = TokenCounts.total([first, second])
    assert (total.pairs_read, total.pairs, total.seams, total.longest_pair) == (11, 7, 7, 30)
    assert total.dropped == {"empty_prompt": 1, "too_long": 3}
    assert total.refusals == {"template_refused": "roles must alternate"}
    assert total.remarks == {"eos_appended": Remark(pairs=7, quote="<2>")}
    assert TokenCounts.total([]).pairs_read == 0
