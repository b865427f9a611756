"""Quarantined rows are read as they were written."""

import pytest

from dpo_data.errors import InputError, PreparedError
from dpo_data.prepared.quarantine import QuarantinedRow, QuarantineWriter, read_quarantine


def row(line: int, raw: str = "{") -> QuarantinedRow:
    return QuarantinedRow(file="a.jsonl", line=line, code="wrong_type", field="", message="No.", hint="Fix.", raw=raw)


def test_rows_are_read_in_order_from_the_quarantine_files_among_the_names(tmp_path):
    writer = QuarantineWriter(tmp_path)
    writer.write("train", [row(1), row(2, raw="\u2028 caf\u00e9\n")])
    writer.write("test", [row(3)])
    writer.write("train", [row(4)])
    writer.close()
    assert writer.rows == {"train": 3, "test": 1}
    names = ["README.md", "quarantine/test.jsonl", "quarantine/train.jsonl", "train/data.arrow"]
    assert list(read_quarantine(tmp_path, names)) == [row(3), row(1), row(2, raw="\u2028 caf\u00e9\n"), row(4)]


def test_no_file_is_written_without_rows(tmp_path):
    writer = QuarantineWriter(tmp_path)
    writer.write("train", [])
    writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"file": "a.jsonl"'])
def test_a_line_that_is_not_a_row_is_named(tmp_path, line):
    writer = QuarantineWriter(tmp_path)
    writer.write("train", [row(1)])
    writer.close()
    path = tmp_path / "quarantine" / "train.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(PreparedError) as refusal:
        list(read_quarantine(tmp_path, ["quarantine/train.jsonl"]))
    assert str(refusal.value) == f"{path}:2: is not a quarantined row.\n  The file was changed: convert again."


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"quarantine/train\.jsonl: there is no such file"):
        list(read_quarantine(tmp_path, ["quarantine/train.jsonl"]))
