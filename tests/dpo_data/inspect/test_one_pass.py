"""The commands that look at whole folders read their shards once, and agree on every number."""

from collections import Counter

import pytest

from dpo_data import convert
from dpo_data.inspect import batches, pairs
from dpo_data.inspect.diff import diff
from dpo_data.inspect.report_data import report
from dpo_data.inspect.validation import validate
from dpo_data.prepared import reader

ROWS = [
    {
        "prompt": f"question {n} " * (n % 7 + 1),
        "chosen": f"yes {n} " * (n % 5 + 1),
        "rejected": f"no {n} " * (n % 3 + 1),
        "chosen_score": n / 10,
        "rejected_score": 0.0,
    }
    for n in range(40)
]
TWICE = [*ROWS, *ROWS[:5]]


@pytest.fixture
def prepared(tmp_path, write_rows):
    """40 pairs, 5 of them twice, in two splits of one shard each."""
    write_rows(tmp_path / "raw" / "train.jsonl", TWICE[:30])
    write_rows(tmp_path / "raw" / "test.jsonl", TWICE[30:])
    convert("pairs", [tmp_path / "raw"], output=tmp_path / "prepared")
    return tmp_path / "prepared"


@pytest.fixture
def read(monkeypatch):
    """Counts of shards that are opened, by name, and of rows that are parsed."""
    counts = Counter()
    read_shard, parse_rows = reader.read_shard, pairs.parse_rows

    def counted_shard(path):
        counts[path.parent.name] += 1
        return read_shard(path)

    def counted_rows(form, stored):
        counts["rows"] += stored.num_rows
        return parse_rows(form, stored)

    for module in (reader, batches):
        monkeypatch.setattr(module, "read_shard", counted_shard)
    for module in (pairs, batches):
        monkeypatch.setattr(module, "parse_rows", counted_rows)
    return counts


def test_validate_reads_every_shard_once(prepared, read, byte_tokenizer):
    assert validate(prepared, tokenizer=byte_tokenizer).findings.keys() == {"duplicate_pair", "prompt_in_two_splits"}
    assert read == {"train": 1, "test": 1, "rows": 45}


def test_report_reads_every_shard_once_and_then_looks_up_its_examples(prepared, read, byte_tokenizer):
    content = report(prepared, tokenizer=byte_tokenizer)
    assert content.statistics.rules[0].by_margin
    assert content.validation.findings["duplicate_pair"].rows == 5
    assert (read["train"], read["test"]) == (2, 2)
    looked_up = read["rows"] - 45
    # The other rows of the findings' examples are looked up too.
    assert len(content.pairs) <= looked_up <= len(content.pairs) + 10


def test_diff_reads_every_shard_once_and_then_looks_up_its_examples(prepared, read, make_prepared):
    other = make_prepared(ROWS[10:], "other")
    found = diff(prepared, other)
    examples = [example for kind in ("moved", "removed", "added") for example in getattr(found, kind).examples]
    places = {place for example in examples for place in (example.place_a, example.place_b) if place}
    assert read["rows"] == 45 + 30 + sum(bool(example.place_a) + bool(example.place_b) for example in examples)
    assert len(places) > 5
    # The split train is in both folders.
    assert (read["test"], read["train"]) == (2, 4)


def test_every_quantity_has_one_value(prepared, byte_tokenizer):
    content = report(prepared, tokenizer=byte_tokenizer, max_lengths=[64, 16])
    assert content.validation == validate(prepared, tokenizer=byte_tokenizer, max_lengths=[16, 64])
    for unit in ("characters", "tokens"):
        for side, quantiles in getattr(content.validation, unit).items():
            distribution = getattr(getattr(content.statistics, unit), side)
            assert quantiles.model_dump() == {
                name: getattr(distribution, name) for name in type(quantiles).model_fields
            }
    assert [(entry.max_length, entry.pairs_cut, entry.responses_cut) for entry in content.validation.cut] == [
        (entry.max_length, entry.pairs_cut, entry.responses_too_long)
        for entry in content.statistics.truncation
        if entry.truncation_mode == "keep_end"
    ]
    assert content.validation.chosen_longer == content.statistics.lengths.chosen_longer / 45
