import datasets
import numpy as np
import pytest
from toys import make_pairs

from dpo_data.errors import UsageError
from dpo_train.data.rows import PairRows


def test_rows_equal_the_dataset_whatever_its_chunks() -> None:
    dataset = datasets.concatenate_datasets([make_pairs(3), make_pairs(4, seed=1), make_pairs(2, seed=2)])
    rows = PairRows(dataset)
    assert len(rows) == 9
    for index in range(9):
        row = rows[index]
        assert {name: list(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")} == {
            name: dataset[index][name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")
        }
        assert row["row"] == index


def test_a_selection_of_rows_is_read_in_its_own_order() -> None:
    dataset = make_pairs(5)
    rows = PairRows(dataset.select([4, 1]))
    assert list(rows[0]["chosen_ids"]) == dataset[4]["chosen_ids"]
    assert list(rows[1]["chosen_ids"]) == dataset[1]["chosen_ids"]
    assert rows.origin(0) == "toy.jsonl:5"


def test_a_row_saved_to_disk_is_a_view_of_the_mapped_file(tmp_path: object) -> None:
    make_pairs(4).save_to_disk(str(tmp_path))
    row = PairRows(datasets.load_from_disk(str(tmp_path)))[2]
    assert isinstance(row["chosen_ids"], np.ndarray)
    assert row["chosen_ids"].dtype == np.int32
    assert not row["chosen_ids"].flags.owndata


def test_missing_columns_are_named_with_those_that_are_there() -> None:
    dataset = datasets.Dataset.from_dict({"prompt_ids": [[1]], "text": ["a"]})
    with pytest.raises(UsageError) as caught:
        PairRows(dataset, "the training set")
    assert str(caught.value) == "the training set: no column chosen_ids, rejected_ids; it has prompt_ids, text."


def test_an_empty_dataset_is_refused() -> None:
    with pytest.raises(UsageError, match="it has no pairs"):
        PairRows(make_pairs(2).select([]), "the training set")


def test_an_empty_response_is_refused_with_its_origin() -> None:
    dataset = make_pairs(3).map(
        lambda row, index: {"rejected_ids": row["rejected_ids"] if index != 1 else []}, with_indices=True
    )
    with pytest.raises(UsageError, match=r"^toy\.jsonl:2: rejected_ids is empty, as in 1 of 3 pairs"):
        PairRows(dataset)


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    with pytest.raises(UsageError, match=r"holds token id 256, the model knows ids 0 to 99"):
        PairRows(make_pairs(3)).check_fits(vocab_size=100, max_positions=None)


def test_a_pair_longer_than_the_models_positions_is_refused_with_its_origin() -> None:
    with pytest.raises(
        UsageError, match=r"^toy\.jsonl:\d+: prompt and response have \d+ tokens, the model has 5 positions"
    ):
        PairRows(make_pairs(3)).check_fits(vocab_size=258, max_positions=5)
