"""Conversion accounts for every row, gives the same bytes however it is run, and leaves nothing half-done."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_data import SOURCES, convert, open_prepared
from dpo_data.conversion.chunks import convert_chunks
from dpo_data.conversion.plan import make_job
from dpo_data.engine.processes import ITEMS_WITHOUT_POOL
from dpo_data.errors import DataError, InputError, Interrupted, PreparedError, RowError, UsageError
from dpo_data.prepared.reader import read_manifest
from dpo_data.readers.inputs import find_inputs


def pair(n: int, **changes: Any) -> dict[str, Any]:
    return {"prompt": f"Question {n}?", "chosen": f"yes {n}", "rejected": "no"} | changes


def hashes(folder: Path) -> dict[str, str]:
    """Every file of a folder but provenance.json, with its hash."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "provenance.json"
    }


def kept_lines(folder: Path) -> list[str]:
    """Origin of each kept row, split by split."""
    prepared = open_prepared(folder)
    return [
        origin
        for split in prepared.split_names
        for batch in prepared.batches(split)
        for origin in batch.column("origin").to_pylist()
    ]


# Every row is accounted for.


def test_the_manifest_says_what_became_of_every_row(tmp_path, write_rows):
    train = write_rows(tmp_path / "in" / "train.jsonl", [pair(1), "{broken", pair(2, chosen=""), "", pair(3, chosen=7)])
    test = write_rows(tmp_path / "in" / "test.jsonl", [pair(4), pair(5, rejected="no\ufffd"), pair(6, chosen="")])
    manifest = convert("pairs", [train, test], output=tmp_path / "out", max_invalid=0.6)
    assert manifest == read_manifest(tmp_path / "out")
    assert manifest.model_dump(exclude={"files"}) == {
        "format": "dpo-data prepared",
        "version": 1,
        "status": "complete",
        "form": "text",
        "source": {
            "name": "pairs",
            "license": "unknown",
            "homepage": "",
            "direction": "as the columns say",
            "eval_only": False,
        },
        "options": {
            "mapping": {},
            "axis": None,
            "revision": None,
            "pairing": None,
            "train_on_eval": False,
            "split": None,
            "test_fraction": 0.0,
            "limit": None,
            "max_invalid": 0.6,
            "forbid": [],
            "allow": [],
            "redact": False,
        },
        "inputs": [
            {"file": "in/train.jsonl", "split": "train", "rows": 4},
            {"file": "in/test.jsonl", "split": "test", "rows": 3},
        ],
        "rows_read": 7,
        "rows_paired": 3,
        "pairs": 3,
        "quarantined": 4,
        "quarantined_by_code": {"empty_response": 2, "unreadable_row": 1, "wrong_type": 1},
        "left_out": 0,
        "left_out_by_reason": {},
        "pairs_left_out": {},
        "unused_columns": {},
        "warnings": {
            "bad_characters": {
                "rows": 1,
                "examples": [
                    "in/test.jsonl:2: rejected holds a replacement character (U+FFFD): bytes were lost in decoding."
                ],
            }
        },
        "redacted": {},
        "splits": {
            "train": {"pairs": 1, "quarantined": 3, "left_out": 0, "shards": ["train/data-00000-of-00001.arrow"]},
            "test": {"pairs": 2, "quarantined": 1, "left_out": 0, "shards": ["test/data-00000-of-00001.arrow"]},
        },
    }
    assert kept_lines(tmp_path / "out") == ["in/train.jsonl:1", "in/test.jsonl:1", "in/test.jsonl:2"]


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


#: Any text that JSON can say, lone surrogates too.
TEXTS = st.one_of(
    st.sampled_from(["", " ", "a", "\n\nHuman: a\n\nAssistant:", "\n\nHuman: a\n\nAssistant: b", "\ud800", "x\x00"]),
    st.text(st.characters(), max_size=5),
)
MESSAGES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", ""]), "content": TEXTS}),
        st.dictionaries(st.sampled_from(["role", "content", "name", "tool_calls"]), TEXTS, max_size=3),
        TEXTS,
    ),
    max_size=3,
)
VALUES = st.recursive(
    st.one_of(TEXTS, MESSAGES, st.none(), st.booleans(), st.floats(), st.integers(), st.just(10**400)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(TEXTS, inner, max_size=2)),
    max_leaves=4,
)
FIELDS = st.sampled_from(["prompt", "chosen", "rejected", "chosen_score", "rejected_score", "transcript", "\ud800"])
LINES = st.one_of(
    st.dictionaries(FIELDS, VALUES, max_size=5).map(lambda row: json.dumps(row).encode()),
    st.fixed_dictionaries({"prompt": VALUES, "chosen": TEXTS, "rejected": TEXTS}).map(
        lambda row: json.dumps(row).encode()
    ),
    st.fixed_dictionaries({"prompt": VALUES, "chosen": MESSAGES, "rejected": MESSAGES}).map(
        lambda r: json.dumps(r).encode()
    ),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")),
    st.just(b'{"prompt": "caf\xe9", "chosen": "a", "rejected": "b"}'),
)


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(LINES, max_size=8),
    source=st.sampled_from(["pairs", "hh-rlhf"]),
    form=st.sampled_from(["text", "conversational"]),
    mapping=st.sampled_from([{}, {"prompt": "chosen.0.content"}]),
)
def test_whatever_the_rows_hold_each_is_kept_or_quarantined(tmp_path_factory, lines, source, form, mapping):
    path = tmp_path_factory.getbasetemp() / "anything.jsonl"
    # The first row alone may refuse a file; here it is a broken one.
    path.write_bytes(b"\n".join([b"{", *lines]))
    job = make_job(source, form, mapping if source == "pairs" else {})
    chunks = list(convert_chunks(find_inputs([str(path)]), job))
    batches = [batch for chunk in chunks for batch in chunk.batches.values()]
    quarantined = [row for chunk in chunks for row in chunk.quarantined]
    kept = [int(origin.rpartition(":")[2]) for batch in batches for origin in batch.column("origin").to_pylist()]
    rows = [n for n, line in enumerate([b"{", *lines], 1) if line.decode("utf-8", "surrogateescape").strip()]
    assert sorted(kept + [row.line for row in quarantined]) == rows
    assert sum(chunk.rows_read for chunk in chunks) == len(rows)
    for row in quarantined:
        assert row.message
        assert row.hint
        json.dumps(row.model_dump()).encode()  # everything in it can be stored
    for batch in batches:
        batch.validate(full=True)


@settings(max_examples=20, deadline=None)
@given(lines=st.lists(LINES, max_size=12), chunk_bytes=st.integers(1, 200))
def test_counts_add_up_on_disk_whatever_the_chunks(tmp_path_factory, lines, chunk_bytes):
    folder = tmp_path_factory.mktemp("counts")
    (folder / "train.jsonl").write_bytes(b"\n".join([json.dumps(pair(1)).encode(), *lines]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpo_data.readers.rows.CHUNK_BYTES", chunk_bytes)
        manifest = convert("pairs", [folder / "train.jsonl"], output=folder / "out", max_invalid=1)
    assert manifest.rows_read == manifest.pairs + manifest.quarantined
    assert manifest.pairs == len(kept_lines(folder / "out"))
    quarantine = folder / "out" / "quarantine" / "train.jsonl"
    codes = [json.loads(line)["code"] for line in quarantine.read_bytes().splitlines()] if quarantine.exists() else []
    assert manifest.quarantined == len(codes) == sum(manifest.quarantined_by_code.values())


# The same bytes.


@pytest.fixture
def many_chunks(tmp_path, write_rows, monkeypatch) -> Path:
    """A folder of raw files in several formats, with every kind of finding, in many chunks."""
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", 500)
    rows: list[Any] = [pair(n % 90, chosen=f"yes {n}" if n % 7 else "", score=n) for n in range(200)]
    rows[50], rows[60], rows[70] = "{broken", pair(10, chosen="no", rejected="yes 10"), pair(3, rejected="\x00")
    write_rows(tmp_path / "in" / "train.jsonl", rows)
    lines = "".join(f'"Question\n{n}?",yes,no\n' if n % 9 else f"{n}\n" for n in range(150))
    (tmp_path / "in" / "test.csv").write_text("prompt,chosen,rejected\n" + lines)
    pq.write_table(pa.Table.from_pylist([pair(n) for n in range(1500)]), tmp_path / "in" / "more.parquet")
    return tmp_path / "in"


def test_any_number_of_workers_writes_the_same_bytes(many_chunks, tmp_path):
    # Fewer chunks are done without other processes.
    assert sum(1 for file in find_inputs([str(many_chunks)]) for _ in file.chunks()) > 3 * ITEMS_WITHOUT_POOL
    written = []
    for workers in (1, 2, 3):
        out = tmp_path / f"out{workers}"
        manifest = convert("pairs", [many_chunks], output=out, max_invalid=0.5, test_fraction=0.3, workers=workers)
        assert manifest.rows_read == 1850
        assert set(manifest.warnings) == {"bad_characters", "contradiction", "duplicate_pair"}
        written.append(hashes(out))
    assert written[0] == written[1] == written[2]
    # Card, dataset_dict and manifest; two quarantine files; an Arrow file, its description and state a split.
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


# Splits and limits.


def prompts(folder: Path) -> dict[str, list[str]]:
    prepared = open_prepared(folder)
    return {
        split: [p for batch in prepared.batches(split) for p in batch.column("prompt").to_pylist()]
        for split in prepared.split_names
    }


def test_test_fraction_keeps_a_prompt_on_one_side_over_any_split_of_the_paths(tmp_path, write_rows):
    train = write_rows(tmp_path / "in" / "train.jsonl", [pair(n) for n in range(2000)])
    test = write_rows(tmp_path / "in" / "test.jsonl", [pair(n, chosen="other") for n in range(2000)])
    sides = {}
    for fraction in (0.1, 0.2):
        manifest = convert("pairs", [train, test], output=tmp_path / f"{fraction}", test_fraction=fraction)
        sides[fraction] = {split: set(found) for split, found in prompts(tmp_path / f"{fraction}").items()}
        assert "prompt_in_two_splits" not in manifest.warnings
        assert manifest.pairs == 4000
        assert sides[fraction]["train"].isdisjoint(sides[fraction]["test"])
        # Three standard deviations of 2,000 draws are 0.027 at a share of 0.2, and 0.02 at 0.1.
        assert len(sides[fraction]["test"]) / 2000 == pytest.approx(fraction, abs=0.027 if fraction == 0.2 else 0.02)
    assert sides[0.1]["test"] < sides[0.2]["test"]


def test_without_test_fraction_the_paths_decide(tmp_path, write_rows):
    train = write_rows(tmp_path / "in" / "train.jsonl", [pair(1)])
    test = write_rows(tmp_path / "in" / "test.jsonl", [pair(2)])
    convert("pairs", [test, train], output=tmp_path / "out")
    assert prompts(tmp_path / "out") == {"train": ["Question 1?"], "test": ["Question 2?"]}
    convert("pairs", [test, train], output=tmp_path / "one", split="test")
    assert prompts(tmp_path / "one") == {"test": ["Question 2?", "Question 1?"]}


@pytest.mark.parametrize("chunk_bytes", [10, 1 << 20])
@pytest.mark.parametrize(
    ("limit", "rows", "lines"),
    [
        (1, [1, 0], ["in/a.jsonl:1"]),
        (2, [2, 0], ["in/a.jsonl:1"]),
        (3, [3, 0], ["in/a.jsonl:1", "in/a.jsonl:4"]),
        (4, [3, 1], ["in/a.jsonl:1", "in/a.jsonl:4", "in/b.csv:2"]),
        (99, [3, 2], ["in/a.jsonl:1", "in/a.jsonl:4", "in/b.csv:2", "in/b.csv:3"]),
    ],
)
def test_limit_counts_rows_read_over_all_files(tmp_path, write_rows, monkeypatch, limit, rows, lines, chunk_bytes):
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", chunk_bytes)
    a = write_rows(tmp_path / "in" / "a.jsonl", [pair(1), "", "{broken", pair(2)])
    b = tmp_path / "in" / "b.csv"
    b.write_text("prompt,chosen,rejected\nq,a,b\nr,a,b\n")
    manifest = convert("pairs", [a, b], output=tmp_path / "out", limit=limit, max_invalid=1)
    assert [entry.rows for entry in manifest.inputs] == rows
    assert manifest.rows_read == sum(rows)
    assert kept_lines(tmp_path / "out") == lines


# Refusals.


def refusal(error: type[DataError], *inputs: Any, output: Path, source: str = "pairs", **options: Any) -> str:
    with pytest.raises(error) as caught:
        convert(source, inputs, output=output, **options)
    return str(caught.value)


def test_on_error_stop_names_the_first_bad_row_and_leaves_nothing(tmp_path, write_rows):
    raw = write_rows(tmp_path / "in" / "a.jsonl", [pair(1), "", pair(2, rejected=None), "{"])
    assert refusal(RowError, raw, output=tmp_path / "out", on_error="stop") == (
        "in/a.jsonl:3: rejected is null. [missing_field]\n"
        "  Name the column that holds it with --map, or remove the row.\n"
        "  To put such rows in quarantine and go on: --on-error quarantine."
    )
    assert not (tmp_path / "out").exists()


def test_a_csv_without_a_column_is_refused_with_the_columns_it_has(tmp_path):
    raw = tmp_path / "a.csv"
    raw.write_text("question,good,bad\nq,a,b\n")
    mapping = {"prompt": "question", "chosen": "best", "rejected": "bad"}
    assert refusal(InputError, raw, output=tmp_path / "out", mapping=mapping) == (
        f'{tmp_path.name}/a.csv: has no column "best".\n  It has: question, good, bad.\n'
        "  Name the right ones with the source `pairs`: --map prompt=... --map chosen=... --map rejected=..."
    )
    assert 'has no column "chosen"' in refusal(InputError, raw, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    convert("pairs", [raw], output=tmp_path / "out", mapping={**mapping, "chosen": "good"})
    assert len(kept_lines(tmp_path / "out")) == 1


def test_a_parquet_file_without_a_column_is_refused_with_the_columns_it_has(tmp_path):
    pq.write_table(pa.table({"chosen": ["a"], "score": [1]}), tmp_path / "a.parquet")
    assert 'has no column "rejected".\n  It has: chosen, score.\n' in refusal(
        InputError, tmp_path / "a.parquet", output=tmp_path / "out"
    )


def test_a_mapped_column_may_lie_inside_another(tmp_path):
    row = {"q": {"text": "Q"}, "a": [{"t": "yes"}, {"t": "no"}]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    mapping = {"prompt": "q.text", "chosen": "a.0.t", "rejected": "a.1.t"}
    convert("pairs", [tmp_path / "a.parquet"], output=tmp_path / "out", mapping=mapping, split="train")
    assert prompts(tmp_path / "out") == {"train": ["Q"]}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_an_empty_file_is_refused_and_leaves_nothing(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert refusal(InputError, tmp_path / name, output=tmp_path / "out") == f"{tmp_path.name}/{name}: no rows in it."
    assert not (tmp_path / "out").exists()


def test_a_header_alone_has_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,chosen,rejected\n")
    message = f"{tmp_path.name}/a.csv: no rows in it."
    assert refusal(InputError, tmp_path / "a.csv", output=tmp_path / "out") == message


def test_a_truncated_file_leaves_nothing(tmp_path, write_rows):
    import gzip

    content = gzip.compress(write_rows(tmp_path / "a.jsonl", [pair(n) for n in range(999)]).read_bytes())
    (tmp_path / "b.jsonl.gz").write_bytes(content[:-50])
    message = f"{tmp_path.name}/b.jsonl.gz: cannot be read: Truncated compressed stream."
    assert refusal(InputError, tmp_path / "b.jsonl.gz", output=tmp_path / "out") == message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "nope"}, f"nope: there is no such source.\n  Sources: {', '.join(SOURCES)}."),
        ({"form": "chat"}, "form=chat: choose from text, conversational."),
        ({"on_error": "skip"}, "on_error=skip: choose from quarantine, stop."),
        ({"split": "dev"}, "split=dev: choose from train, test."),
        (
            {"split": "train", "test_fraction": 0.1},
            "--split and --test-fraction both say which split a row belongs to. Give one of them.",
        ),
        ({"test_fraction": 1.0}, "--test-fraction 1.0: must be at least 0 and under 1."),
        ({"test_fraction": -0.1}, "--test-fraction -0.1: must be at least 0 and under 1."),
        ({"max_invalid": 5.0}, "--max-invalid 5.0: must be between 0 and 1 (or 0% and 100%)."),
        ({"limit": 0}, "--limit 0: must be at least 1."),
        ({"sample": True}, "--sample reads the embedded sample, and --input something else. Give one of them."),
        ({"source": "hh-rlhf", "mapping": {"prompt": "q"}}, None),
    ],
)
def test_options_that_contradict_are_refused_before_anything_is_read(tmp_path, options, message):
    found = refusal(UsageError, tmp_path / "none.jsonl", output=tmp_path / "out", **options)
    expected = "hh-rlhf knows its columns and takes no --map.\n  Use the source `pairs` for other tables."
    assert found == (message or expected)
    assert not (tmp_path / "out").exists()


def test_a_source_without_files_asks_for_some(tmp_path):
    assert refusal(UsageError, output=tmp_path / "out") == "pairs reads your own files.\n  Name them: --input FILE."
    message = "pairs has no embedded sample.\n  hh-rlhf has one."
    assert refusal(UsageError, output=tmp_path / "out", sample=True) == message


# Where the output goes.


@pytest.fixture
def raw(tmp_path, write_rows) -> Path:
    return write_rows(tmp_path / "in" / "train.jsonl", [pair(1)])


def test_a_finished_folder_is_replaced_only_when_asked(tmp_path, raw, write_rows):
    out = tmp_path / "out"
    convert("pairs", [raw], output=out)
    before = hashes(out)
    assert refusal(UsageError, raw, output=out) == (
        f"{out}: holds a finished data set.\n  Replace it with --overwrite, or name another."
    )
    assert hashes(out) == before
    other = write_rows(tmp_path / "in" / "test.jsonl", [pair(2), pair(3, chosen="")])
    (out / "notes.txt").write_text("mine")
    (out / "tokens" / "key").mkdir(parents=True)
    convert("pairs", [other], output=out, overwrite=True, max_invalid=0.5)
    assert prompts(out) == {"test": ["Question 2?"]}
    # The old split goes, token caches and files that are not ours stay.
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "dataset_dict.json",
        "manifest.json",
        "notes.txt",
        "provenance.json",
        "quarantine",
        "test",
        "tokens",
    ]


def test_a_run_that_fails_leaves_the_finished_folder_as_it_was(tmp_path, raw):
    out = tmp_path / "out"
    convert("pairs", [raw], output=out)
    before = hashes(out)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    refusal(InputError, tmp_path / "bad.csv", output=out, overwrite=True)
    assert hashes(out) == before
    assert open_prepared(out).manifest.pairs == 1


def test_a_folder_with_files_that_are_not_ours_is_left_alone(tmp_path, raw):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        assert refusal(UsageError, raw, output=out, overwrite=overwrite) == (
            f"{out}: holds files that are not ours.\n  Name a folder that is new or empty."
        )
    assert {path.name: path.read_text() for path in out.iterdir()} == {"thesis.txt": "years of work"}


def test_an_output_that_is_a_file_is_left_alone(tmp_path, raw):
    message = f"{raw}: is a file.\n  Name a folder that is new or empty."
    before = raw.read_bytes()
    assert refusal(UsageError, raw, output=raw, overwrite=True) == message
    assert raw.read_bytes() == before


def test_an_empty_folder_is_used_and_left_empty_by_a_run_that_fails(tmp_path, raw):
    out = tmp_path / "out"
    out.mkdir()
    refusal(InputError, tmp_path / "none.jsonl", output=out)
    (tmp_path / "empty.jsonl").touch()
    refusal(InputError, tmp_path / "empty.jsonl", output=out)
    assert list(out.iterdir()) == []
    convert("pairs", [raw], output=out)
    assert open_prepared(out).manifest.pairs == 1


@contextmanager
def without_privileges() -> Iterator[None]:
    """As another user, where the tests run as root, whom no permission stops."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_folder_without_permission_is_refused(write_rows):
    # Not tmp_path: nobody but its owner may pass through that.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_rows(folder / "a.jsonl", [pair(1)])
        folder.chmod(0o555)
        with without_privileges():
            found = refusal(UsageError, source, output=folder / "out")
        assert found == f"{folder / 'out'}: no permission to write there.\n  Write to another folder."
        source.chmod(0)
        folder.chmod(0o777)
        with without_privileges():
            found = refusal(InputError, source, output=folder / "out")
        assert found == f"{folder.name}/a.jsonl: no permission to read it."


def test_a_disk_that_is_full_is_said_and_nothing_is_left(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", [pair(n, chosen="word " * 200) for n in range(500)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        found = refusal(UsageError, raw, output=tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found == (
        f"{tmp_path / 'out'}: writing failed: Error writing bytes to file. Detail: [errno 27] File too large.\n"
        "  No incomplete output was left behind. Free some space, or write to another folder."
    )
    assert not (tmp_path / "out").exists()


# Stopped runs.

#: 12 MB, twelve chunks: enough that workers are started.
LONG_ROWS = [json.dumps(pair(n, chosen=f"yes {n} " * 1000)).encode() + b"\n" for n in range(1500)]
#: Three chunks.
FEW_ROWS = LONG_ROWS[:400]


def command(out: Path, workers: int) -> list[str]:
    options = ["--input", "-", "--workers", str(workers), "--output", str(out), "--json"]
    return [sys.executable, "-m", "dpo_data", "convert", "pairs", *options]


@contextmanager
def held_run(out: Path, workers: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """A run in the middle of its work: some rows are written, and it waits for more on standard input."""
    run = subprocess.Popen(
        command(out, workers),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that a signal may go to all its processes, as Ctrl-C does
    )
    try:
        assert run.stdin is not None
        run.stdin.write(b"".join(LONG_ROWS if workers > 1 else FEW_ROWS))
        run.stdin.flush()
        shard = out / ".partial" / "train" / "00000"
        deadline = time.monotonic() + 30
        while not (shard.exists() and shard.stat().st_size > 1_000_000):
            assert run.poll() is None, run.stderr and run.stderr.read().decode()
            assert time.monotonic() < deadline
            if workers > 1:  # the run itself works on while its workers start: it gets more than it could finish
                run.stdin.write(b"".join(LONG_ROWS[:200]))
                run.stdin.flush()
            time.sleep(0.02)
        yield run
    finally:
        run.kill()
        run.communicate()


def test_a_killed_run_leaves_nothing_that_reads_as_complete_and_the_next_completes_it(tmp_path, monkeypatch):
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    with held_run(killed) as run:
        run.send_signal(signal.SIGKILL)
        assert run.wait(10) == -signal.SIGKILL
    with pytest.raises(PreparedError, match="is unfinished: a run was stopped"):
        open_prepared(killed)
    assert [path.name for path in killed.iterdir()] == [".partial"]
    (tmp_path / "rows").write_bytes(b"".join(FEW_ROWS))
    for out in (killed, undisturbed):
        with (tmp_path / "rows").open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            convert("pairs", ["-"], output=out)
    assert hashes(killed) == hashes(undisturbed)
    assert open_prepared(killed).manifest.pairs == len(FEW_ROWS)


def test_the_workers_of_a_killed_run_end_with_it(tmp_path):
    with held_run(tmp_path / "out", workers=2) as run:
        workers = psutil.Process(run.pid).children(recursive=True)
        assert len(workers) >= 2
        run.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=10)
    assert [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_leaves_nothing_behind(tmp_path, workers):
    out = tmp_path / "out"
    with held_run(out, workers) as run:
        os.killpg(run.pid, signal.SIGINT)
        output, errors = run.communicate(timeout=20)
    assert errors.decode() == f"Error: {out}: stopped; nothing of this run is left there.\n"
    assert (run.returncode, output) == (130, b"")
    assert not out.exists()


def test_ctrl_c_over_a_finished_folder_leaves_it_as_it_was(tmp_path, raw):
    out = tmp_path / "out"
    convert("pairs", [raw], output=out)
    before = hashes(out)

    def interrupt(fraction: float | None, rows: int) -> None:
        raise KeyboardInterrupt

    assert refusal(Interrupted, raw, output=out, overwrite=True, progress=interrupt) == (
        f"{out}: stopped; nothing of this run is left there."
    )
    assert hashes(out) == before


def test_a_second_run_into_a_folder_that_is_being_written_is_refused(tmp_path, raw):
    out = tmp_path / "out"
    with held_run(out) as run:
        for overwrite in (False, True):
            assert refusal(UsageError, raw, output=out, overwrite=overwrite) == (
                f"{out}: another run is writing it.\n  Wait for it, or name another folder."
            )
        output, errors = run.communicate(timeout=20)  # the end of its input: it goes on undisturbed
    assert (run.returncode, errors) == (0, b"")
    assert json.loads(output)["manifest"]["pairs"] == len(FEW_ROWS)
    assert open_prepared(out).manifest.pairs == len(FEW_ROWS)


def test_a_rejected_run_exits_with_one(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", [pair(1), "{"])
    options = ["--input", str(raw), "--output", str(tmp_path / "out"), "--split", "train", "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "dpo_data", "convert", "pairs", *options], check=False, capture_output=True
    )
    assert (run.returncode, run.stderr) == (1, b"")
    assert json.loads(run.stdout)["manifest"]["status"] == "rejected"
    assert (tmp_path / "out" / "quarantine" / "train.jsonl").is_file()


#: Converts over a finished folder, again and again, each time killed one step later: a step is anything that makes,
#: moves or removes a file or folder of the output. Prints, for each, what a reader finds and what the next run makes.
KILLED_AT_EVERY_STEP = """
import hashlib, json, os, shutil, signal, sys
from pathlib import Path
import dpo_data.sources.pairs, pandas  # here, and not in each child; Arrow loads pandas
from dpo_data.conversion.convert import convert
from dpo_data.errors import DataError
from dpo_data.prepared.reader import damaged_files, open_prepared

old, new, work = map(Path, sys.argv[1:])

def forked(task):
    if not (child := os.fork()):
        task()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def run(folder):
    convert("pairs", [new], output=folder, overwrite=True)

def killed_at(step):
    seen = 0
    def watch(event, arguments):
        nonlocal seen
        if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") and ".keys" not in str(arguments[0]):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    run(work)

def content(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*"))
            if p.is_file() and p.name not in ("provenance.json", "lock")}

def found():
    try:
        prepared = open_prepared(work)
        return [sorted(damaged_files(work, prepared.manifest.files)), prepared.manifest.pairs]
    except DataError as error:
        return str(error).splitlines()[0]

before = work.with_name("before")
forked(lambda: convert("pairs", [old], output=before))
results, step, code = [], 0, -9
while code == -9:
    step += 1
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(before, work)
    code = forked(lambda: killed_at(step))
    reader = found()
    forked(lambda: run(work))
    results.append([code, reader, content(work)])
print(json.dumps(results))
"""


def test_a_run_that_is_killed_at_any_step_leaves_the_old_the_new_or_nothing_to_read(tmp_path, write_rows):
    old = write_rows(tmp_path / "in" / "train.jsonl", [pair(1)])
    new = write_rows(tmp_path / "in" / "test.jsonl", [pair(2), pair(3)])
    convert("pairs", [new], output=tmp_path / "undisturbed")
    expected = {Path(name).name: hash_ for name, hash_ in hashes(tmp_path / "undisturbed").items()}
    work = tmp_path / "work"
    script = [sys.executable, "-c", KILLED_AT_EVERY_STEP, old, new, work]
    results = json.loads(subprocess.run(script, check=True, capture_output=True).stdout)
    assert [code for code, *_ in results] == [-signal.SIGKILL] * (len(results) - 1) + [0]
    readers = [reader for _, reader, _ in results]
    whole_old, unfinished, whole_new = [[], 1], f"{work}: is unfinished: a run was stopped.", [[], 2]
    changes = [reader for n, reader in enumerate(readers) if not n or reader != readers[n - 1]]
    assert changes == [whole_old, unfinished, whole_new]
    assert [content for *_, content in results] == [expected] * len(results)
