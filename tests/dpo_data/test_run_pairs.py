"""Measurements of a run's pairs are read as they were written."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_data.errors import InputError
from dpo_data.run_pairs import MEASURES, RUN_COLUMNS, RUN_PAIRS, MeasuredPairs, read_run_pairs, write_run_pairs


def measured(split: str, ids: list[str], steps: list[int]) -> MeasuredPairs:
    values = {name: np.arange(len(ids)) + 0.5 + number for number, name in enumerate(MEASURES)}
    return MeasuredPairs(split, ids, [f"a.jsonl:{id_}" for id_ in ids], np.array(steps), values)


def test_parts_are_read_in_order_with_the_columns_that_readers_rely_on(tmp_path):
    write_run_pairs(tmp_path, [measured("train", ["1", "2"], [3, 4]), measured("test", ["1"], [9])])
    assert read_run_pairs(tmp_path).to_pylist() == [
        {"split": "train", "id": "1", "origin": "a.jsonl:1", "step": 3, "margin": 4.5},
        {"split": "train", "id": "2", "origin": "a.jsonl:2", "step": 4, "margin": 5.5},
        {"split": "test", "id": "1", "origin": "a.jsonl:1", "step": 9, "margin": 4.5},
    ]


def test_the_file_has_every_measure(tmp_path):
    write_run_pairs(tmp_path, [measured("train", ["1"], [3])])
    assert pq.read_table(tmp_path / "pairs.parquet").to_pylist() == [
        {
            "split": "train",
            "id": "1",
            "origin": "a.jsonl:1",
            "step": 3,
            "policy_chosen_logps": 0.5,
            "policy_rejected_logps": 1.5,
            "ref_chosen_logps": 2.5,
            "ref_rejected_logps": 3.5,
            "margin": 4.5,
        }
    ]


def test_a_run_without_measurements_has_no_file(tmp_path):
    write_run_pairs(tmp_path, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", RUN_COLUMNS)
def test_a_file_without_a_column_is_refused(tmp_path, missing):
    columns = {name: ["a"] for name in RUN_COLUMNS if name != missing}
    pq.write_table(pa.table(columns), tmp_path / RUN_PAIRS)
    with pytest.raises(InputError, match=rf"pairs\.parquet: has no column {missing}; it has"):
        read_run_pairs(tmp_path)


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"pairs\.parquet: there is no such file"):
        read_run_pairs(tmp_path)
    (tmp_path / RUN_PAIRS).write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"pairs\.parquet: cannot be read"):
        read_run_pairs(tmp_path)
