"""Arrow columns from buffers equal those of pa.array, which they replace as long as it imports pandas."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from dpo_data.errors import InputError
from dpo_data.prepared.columns import (
    booleans_column,
    ids_column,
    messages_column,
    numbers_column,
    scores_column,
    text_column,
)
from dpo_data.prepared.schema import PairColumns, pair_schema
from dpo_data.ragged import Ragged
from dpo_data.records import Message


@pytest.mark.parametrize("texts", [[], ["", "a", "é\u2028"], ["a", None, ""], [None, None]])
def test_a_text_column_equals_that_of_arrow(texts):
    column = text_column([None if text is None else text.encode() for text in texts])
    column.validate(full=True)
    assert column.equals(pa.array(texts, pa.string()))


@pytest.mark.parametrize("scores", [[], [1.5, -2.0], [None, 0.0, 3.0], [None] * 9])
def test_a_score_column_equals_that_of_arrow(scores):
    column = scores_column(scores)
    column.validate(full=True)
    assert column.equals(pa.array(scores, pa.float64()))


@pytest.mark.parametrize("values", [[], [True, False, True], [True, None, False], [None] * 9])
def test_a_column_of_truth_values_equals_that_of_arrow(values):
    column = booleans_column(values)
    column.validate(full=True)
    assert column.equals(pa.array(values, pa.bool_()))


def test_a_number_column_equals_that_of_arrow():
    for type_, numbers in ((pa.int64(), np.arange(5)[::2]), (pa.int32(), np.array([7], np.int32))):
        assert numbers_column(numbers, type_).equals(pa.array(numbers.tolist(), type_))


@pytest.mark.parametrize("ids", [[], [[1, 2], [], [3]], [[]]])
def test_an_id_column_equals_that_of_arrow(ids):
    values = np.array([id_ for row in ids for id_ in row], np.int32)
    column = ids_column(Ragged(values, np.array([0, *np.cumsum([len(row) for row in ids], dtype=np.int64)], np.int64)))
    column.validate(full=True)
    assert column.equals(pa.array(ids, pa.list_(pa.int32())))


@pytest.mark.parametrize("tools", [False, True])
def test_a_message_column_equals_that_of_arrow(tools):
    conversations = [
        [Message(role="user", content="hé"), Message(role="assistant", content="", tool_calls="[]")],
        [],
        [Message(role="tool", content="4", name="add")],
    ]
    type_ = pair_schema("conversational", PairColumns(tools=tools)).field("prompt").type
    names = [field.name for field in type_.value_type]
    expected = [[{name: getattr(message, name) for name in names} for message in row] for row in conversations]
    column = messages_column(conversations, type_)
    column.validate(full=True)
    assert column.equals(pa.array(expected, type_))


def test_pyarrow_still_imports_pandas_for_an_array():
    code = "import sys, pyarrow; pyarrow.array(['a']); print('pandas' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "True\n", (
        f"pyarrow {pa.__version__} makes arrays without pandas: delete dpo_data/prepared/columns.py, use pa.array, and "
        f"require pyarrow>={pa.__version__}"
    )


class Long(bytes):
    """Bytes that say that there are a billion of them."""

    def __len__(self) -> int:
        return 1 << 30


def test_texts_beyond_the_offsets_of_a_column_are_refused_rather_than_damaged():
    with pytest.raises(InputError, match=r"texts of more than 2 GiB cannot be in one column\."):
        text_column([Long(b"x"), Long(b"x")])
