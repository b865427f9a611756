from typing import Any

import datasets
import numpy as np
import pytest
from prefix_rows import ROWS, dataset
from toys import make_pairs

from dpo_data.errors import UsageError
from dpo_train.data.rows import PairRows


def test_rows_equal_the_dataset_whatever_its_chunks() -> None:
    pairs = datasets.concatenate_datasets([make_pairs(3), make_pairs(4, seed=1), make_pairs(2, seed=2)])
    rows = PairRows(pairs)
    assert len(rows) == 9
    for index in range(9):
        row = rows[index]
        assert {name: list(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")} == {
            name: pairs[index][name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")
        }
        assert row["row"] == index


def test_a_selection_of_rows_is_read_in_its_own_order() -> None:
    pairs = make_pairs(5)
    rows = PairRows(pairs.select([4, 1]))
    assert list(rows[0]["chosen_ids"]) == pairs[4]["chosen_ids"]
    assert list(rows[1]["chosen_ids"]) == pairs[1]["chosen_ids"]
    assert rows.origin(0) == "toy.jsonl:5"


def test_a_row_saved_to_disk_is_a_view_of_the_mapped_file(tmp_path: object) -> None:
    make_pairs(4).save_to_disk(str(tmp_path))
    [row] = PairRows(datasets.load_from_disk(str(tmp_path))).pairs([2])
    assert isinstance(row["chosen_ids"], np.ndarray)
    assert row["chosen_ids"].dtype == np.int32
    assert not row["chosen_ids"].flags.owndata


def test_missing_columns_are_named_with_those_that_are_there() -> None:
    pairs = datasets.Dataset.from_dict({"prompt_ids": [[1]], "text": ["a"]})
    with pytest.raises(UsageError) as caught:
        PairRows(pairs, "the training set")
    assert str(caught.value) == "the training set: no column chosen_ids, rejected_ids; it has prompt_ids, text."


def test_an_empty_dataset_is_refused() -> None:
    with pytest.raises(UsageError, match="it has no pairs"):
        PairRows(make_pairs(2).select([]), "the training set")


def test_an_empty_response_is_refused_with_its_origin() -> None:
    pairs = make_pairs(3).map(
        lambda row, index: {"rejected_ids": row["rejected_ids"] if index != 1 else []}, with_indices=True
    )
    with pytest.raises(UsageError, match=r"^toy\.jsonl:2: rejected_ids is empty, as in 1 of 3 pairs"):
        PairRows(pairs)


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    with pytest.raises(UsageError, match=r"has token id 256, the vocabulary of the model has ids 0 to 99"):
        PairRows(make_pairs(3)).check_fits(vocab_size=100, max_positions=None)


def test_a_pair_longer_than_the_models_positions_is_refused_with_its_origin() -> None:
    with pytest.raises(
        UsageError, match=r"^toy\.jsonl:\d+: prompt and response have \d+ tokens, the model has 5 positions"
    ):
        PairRows(make_pairs(3)).check_fits(vocab_size=258, max_positions=5)


def test_distinct_tokens_count_each_prompt_and_each_response_to_it_once() -> None:
    rows = PairRows(dataset(ROWS))
    assert rows.distinct_tokens == (5 + 4 + 2 + 6 + 2) + (1 + 1 + 1) + (2 + 8 + 1) + (15 + 1 + 3) + (1 + 4 + 4)
    assert rows.two_sequence_tokens == sum(
        2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in ROWS
    )


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[5], None, [7]], "the set, row 1: chosen_ids is null"),
        ([[5], [6], [7, None]], "the set, row 2: chosen_ids has the token id None"),
        ([[5], [6, -100], [7]], "the set, row 1: chosen_ids has the token id -100"),
        ([[2**40], [6], [7]], "the set: chosen_ids must be lists of token ids"),
        ([["a"], ["b"], ["c"]], "the set: chosen_ids must be lists of token ids"),
        ([5, 6, 7], "the set: chosen_ids must be lists of token ids, but is int64"),
    ],
)
def test_a_value_that_is_not_a_token_id_is_refused_with_its_row(ids: list[Any], message: str) -> None:
    rows = {"prompt_ids": [[1], [2], [3]], "chosen_ids": ids, "rejected_ids": [[1], [2], [3]]}
    with pytest.raises(UsageError, match=message):
        PairRows(datasets.Dataset.from_dict(rows), "the set")


def test_ids_of_pairs_may_be_numbers() -> None:
    rows = PairRows(make_pairs(3).add_column("id", [7, 8, 9]))
    assert rows.column("id", np.array([2, 0])) == ["9", "7"]


def test_scores_that_are_not_numbers_are_refused() -> None:
    scored = make_pairs(2).add_column("chosen_score", ["2", "3"]).add_column("rejected_score", ["1", "1"])
    with pytest.raises(UsageError, match="chosen_score must be numbers, but is string"):
        PairRows(scored)
