"""A conversion writes the same bytes however it is run."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conversions import hashes, pair

from dpo_data import convert
from dpo_data.engine import ITEMS_WITHOUT_POOL
from dpo_data.readers.inputs import find_inputs


@pytest.fixture
def many_chunks(tmp_path, write_rows, monkeypatch) -> Path:
    """Return a folder of raw files in several formats, with every kind of finding, in many chunks."""
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", 500)
    rows: list[Any] = [pair(n % 90, chosen=f" yes {n}" if n % 7 else "", score=n) for n in range(200)]
    rows[50], rows[60], rows[70] = "{broken", pair(10, chosen=" no", rejected=" yes 10"), pair(3, rejected=" \x00")
    write_rows(tmp_path / "in" / "train.jsonl", rows)
    lines = "".join(f'"Question\n{n}?", yes, no\n' if n % 9 else f"{n}\n" for n in range(150))
    (tmp_path / "in" / "test.csv").write_text("prompt,chosen,rejected\n" + lines)
    pq.write_table(pa.Table.from_pylist([pair(n) for n in range(1500)]), tmp_path / "in" / "more.parquet")
    return tmp_path / "in"


def test_any_number_of_workers_writes_the_same_bytes(many_chunks, tmp_path):
    # Fewer chunks are converted in one process.
    assert sum(1 for file in find_inputs([many_chunks]) for _ in file.chunks()) > 3 * ITEMS_WITHOUT_POOL
    written = []
    for workers in (1, 2, 3):
        out = tmp_path / f"out{workers}"
        manifest = convert("pairs", [many_chunks], output=out, max_invalid=0.5, test_fraction=0.3, workers=workers)
        assert manifest.rows_read == 1850
        assert set(manifest.warnings) == {"bad_characters", "contradiction", "duplicate_pair"}
        written.append(hashes(out))
    assert written[0] == written[1] == written[2]
    # Card, dataset_dict and manifest; two quarantine files; in each split an Arrow file, its description and its state.
    assert len(written[0]) == 3 + 2 + 2 * 3


def test_any_working_directory_writes_the_same_bytes(many_chunks, tmp_path, monkeypatch):
    written = []
    for number, (cwd, name) in enumerate([("/", many_chunks), (tmp_path, "in"), (many_chunks, ".")]):
        monkeypatch.chdir(cwd)
        convert("pairs", [name], output=tmp_path / f"out{number}", max_invalid=0.5)
        written.append(hashes(tmp_path / f"out{number}"))
    assert written[0] == written[1] == written[2]


def test_a_second_run_over_a_finished_folder_writes_the_same_bytes(many_chunks, tmp_path):
    convert("pairs", [many_chunks], output=tmp_path / "out", max_invalid=0.5)
    before = hashes(tmp_path / "out")
    convert("pairs", [many_chunks], output=tmp_path / "out", max_invalid=0.5, overwrite=True)
    assert hashes(tmp_path / "out") == before
