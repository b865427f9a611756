"""Raw files, and the rows that their readers return."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_data.errors import InputError, RowError
from dpo_data.readers import rows
from dpo_data.readers.inputs import find_inputs

TABLE = pa.table({"q": ["one", "two", None], "n": [1, 2, 3]})
TABLE_ROWS = [(1, {"q": "one", "n": 1}), (2, {"q": "two", "n": 2}), (3, {"q": None, "n": 3})]
LINES = "".join(f'{{"n": {n}}}\n' for n in range(3000)).encode()


def read_rows(path: Path | str, **options: Any) -> list[rows.RawRow]:
    (file,) = find_inputs([str(path)], **options)
    return [row for chunk in file.chunks() for row in chunk.rows()]


def seen(path: Path | str, **options: Any) -> list[tuple[int, Any]]:
    """Return the line and value of each row, or the code and message of one that cannot be read."""
    return [
        (row.line, (row.value.code, row.value.message) if isinstance(row.value, RowError) else row.value)
        for row in read_rows(path, **options)
    ]


def written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path | str, **options: Any) -> str:
    """Return the message of the InputError that reading ends with."""
    with pytest.raises(InputError) as caught:
        read_rows(path, **options)
    return str(caught.value)


def write_table(path: Path, table: pa.Table, layout: str) -> Path:
    if layout == "parquet":
        pq.write_table(table, path, row_group_size=2)
        return path
    opened = pa.ipc.new_file if layout == "file" else pa.ipc.new_stream
    with opened(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path
