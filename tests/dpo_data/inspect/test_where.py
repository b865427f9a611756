"""`dpo-data where`: the prepared folders and runs that use a pair."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_data import open_prepared, tokenize
from dpo_data.errors import UsageError
from dpo_data.inspect.where import where

ROWS = [{"prompt": f"question {n}", "chosen": f"samex {n}", "rejected": f"samey {n}"} for n in range(40)]


@pytest.fixture
def prepared(make_prepared):
    return make_prepared(ROWS)


@pytest.fixture
def id_(prepared):
    return open_prepared(prepared).dataset()["train"]["id"][3]


@pytest.fixture
def run(tmp_path, id_):
    columns = {
        "split": ["train", "train", "test"],
        "id": [id_, id_, "0" * 32],
        "origin": ["pairs.jsonl:4", "pairs.jsonl:4", "x:1"],
        "step": [9, 2, 2],
        "margin": [-0.5, 0.25, 1.0],
    }
    (tmp_path / "run").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "run" / "pairs.parquet")
    return tmp_path / "run"


def test_a_pair_is_found_in_folders_and_runs(prepared, run, make_prepared, id_):
    other = make_prepared(ROWS[3:5], "other")
    uses = where(id_, [prepared, other, run])
    assert [(use.kind, use.split, use.index, use.step, use.margin) for use in uses] == [
        ("prepared", "train", 3, None, None),
        ("prepared", "train", 0, None, None),
        ("run", "train", None, 2, 0.25),
        ("run", "train", None, 9, -0.5),
    ]
    assert uses[0].origin.endswith("pairs.jsonl:4")


def test_a_unique_prefix_of_an_id_is_enough(prepared, run, id_):
    assert {use.id for use in where(id_[:10], [prepared, run])} == {id_}


def test_an_ambiguous_prefix_is_refused(prepared):
    ids = open_prepared(prepared).dataset()["train"]["id"]
    shared = next(id_[0] for id_ in ids if sum(other[0] == id_[0] for other in ids) > 1)
    with pytest.raises(UsageError, match=r"pairs have an id that starts with it"):
        where(shared, [prepared])


def test_a_token_cache_that_dropped_the_pair_says_why(make_prepared, byte_tokenizer):
    folder = make_prepared([{"prompt": "pppp", "chosen": "samex", "rejected": "samey"}])
    tokenize(folder, tokenizer=byte_tokenizer, max_length=5)
    id_ = open_prepared(folder).dataset()["train"]["id"][0]
    assert [(use.kind, use.dropped) for use in where(id_, [folder])] == [
        ("prepared", None),
        ("tokens", "equal_responses"),
    ]


@pytest.mark.parametrize("id_", ["not hex", "", "a" * 33, "AB"])
def test_a_string_that_is_not_an_id_is_refused(prepared, id_):
    with pytest.raises(UsageError, match="not a pair id"):
        where(id_, [prepared])


def test_a_path_that_is_neither_a_folder_nor_a_run_is_refused(tmp_path, id_):
    with pytest.raises(UsageError, match=r"neither a prepared folder nor a run"):
        where(id_, [tmp_path])


def test_the_command_lists_them(prepared, run, dpo_data, id_):
    code, out, _ = dpo_data("where", id_, prepared, run)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == id_
    assert "train:3" in lines[2]
    assert "-0.500" in lines[4]


def test_a_pair_that_nobody_used_gives_exit_code_1(prepared, run, dpo_data):
    code, out, _ = dpo_data("where", "12345678901234567890", prepared, run)
    assert code == 1
    assert out.startswith("No pair with id")


def test_standard_output_is_only_json(prepared, run, dpo_data, id_):
    code, out, _ = dpo_data("where", id_, run, "--json")
    assert code == 0
    assert [use["margin"] for use in json.loads(out)] == [0.25, -0.5]
