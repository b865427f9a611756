"""Slices of Arrow data that are bounded in rows and in bytes."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_data.slices import slices


@given(lengths=st.lists(st.integers(0, 40), max_size=30), max_rows=st.integers(1, 9), max_bytes=st.integers(1, 99))
@pytest.mark.parametrize("kind", [pa.record_batch, pa.table])
def test_slices_hold_all_rows_in_order_within_both_bounds(kind, lengths, max_rows, max_bytes):
    rows = kind({"text": pa.array(["x" * length for length in lengths], pa.string())})
    parts = list(slices(rows, max_rows, max_bytes))
    assert [text for part in parts for text in part.column("text").to_pylist()] == rows.column("text").to_pylist()
    for part in parts:
        assert 1 <= part.num_rows <= max_rows
        assert part.num_rows == 1 or part.nbytes <= max_bytes


def test_usual_rows_come_in_thousands():
    rows = pa.record_batch({"text": ["x" * 1500] * 2500})
    assert [part.num_rows for part in slices(rows)] == [1000, 1000, 500]


def test_long_rows_come_in_slices_of_eight_megabytes():
    rows = pa.record_batch({"text": ["x" * 300_000] * 100})
    assert {part.num_rows for part in slices(rows)} <= {12, 13, 25}
    assert sum(part.num_rows for part in slices(rows)) == 100
