"""Every raw row is accounted for."""

import json

import pytest
from conversions import kept_lines, pair
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_data import convert
from dpo_data.conversion.chunks import convert_chunks
from dpo_data.conversion.plan import make_plan
from dpo_data.conversion.raw_inputs import RawInputs
from dpo_data.prepared.reader import read_manifest
from dpo_data.readers.inputs import find_inputs


def test_the_manifest_accounts_for_every_row(tmp_path, write_rows):
    train = write_rows(tmp_path / "in" / "train.jsonl", [pair(1), "{broken", pair(2, chosen=""), "", pair(3, chosen=7)])
    test = write_rows(tmp_path / "in" / "test.jsonl", [pair(4), pair(5, rejected=" no\ufffd"), pair(6, chosen="")])
    manifest = convert("pairs", [train, test], output=tmp_path / "out", max_invalid=0.6, form="text")
    assert manifest == read_manifest(tmp_path / "out")
    assert manifest.model_dump(exclude={"files", "content_hash"}) == {
        "format": "dpo-data prepared",
        "version": 2,
        "status": "complete",
        "name": None,
        "description": None,
        "license": None,
        "form": "text",
        "form_reason": None,
        "made_by": "convert",
        "kept_columns": {},
        "source": {
            "name": "pairs",
            "license": "unknown",
            "homepage": "",
            "direction": "as the columns say",
            "eval_only": False,
        },
        "options": {
            "mapping": {},
            "label_map": {},
            "where": None,
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
                    "in/test.jsonl:2: rejected contains a replacement character (U+FFFD): bytes were lost in decoding."
                ],
            }
        },
        "redacted": {},
        "judgments": None,
        "skipped": [],
        "splits": {
            "train": {
                "pairs": 1,
                "quarantined": 3,
                "left_out": 0,
                "shards": ["train/data-00000-of-00001.arrow"],
                "shard_rows": [1],
            },
            "test": {
                "pairs": 2,
                "quarantined": 1,
                "left_out": 0,
                "shards": ["test/data-00000-of-00001.arrow"],
                "shard_rows": [2],
            },
        },
        "columns": {
            **dict.fromkeys(["prompt", "chosen", "rejected"], "string"),
            **dict.fromkeys(["chosen_score", "rejected_score", "margin"], "float64"),
            **dict.fromkeys(["source", "origin", "id", "prompt_key"], "string"),
        },
    }
    assert kept_lines(tmp_path / "out") == ["in/train.jsonl:1", "in/test.jsonl:1", "in/test.jsonl:2"]


#: Any text that JSON can express, lone surrogates included.
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
def test_any_row_is_kept_or_quarantined(tmp_path_factory, lines, source, form, mapping):
    path = tmp_path_factory.getbasetemp() / "anything.jsonl"
    # Only its first row may refuse a file; here that row is broken.
    path.write_bytes(b"\n".join([b"{broken", *lines]))
    job = make_plan(source, path, form=form, mapping=mapping if source == "pairs" else None).job
    chunks = list(convert_chunks(RawInputs(find_inputs([path])), job))
    batches = [batch for chunk in chunks for batch in chunk.batches.values()]
    quarantined = [row for chunk in chunks for row in chunk.quarantined]
    kept = [int(origin.rpartition(":")[2]) for batch in batches for origin in batch.column("origin").to_pylist()]
    rows = [n for n, line in enumerate([b"{broken", *lines], 1) if line.strip()]
    assert sorted(kept + [row.line for row in quarantined]) == rows
    assert sum(chunk.rows_read for chunk in chunks) == len(rows)
    for row in quarantined:
        assert row.message
        assert row.hint
        json.dumps(row.model_dump()).encode()  # all of it can be stored
    for batch in batches:
        batch.validate(full=True)


@settings(max_examples=20, deadline=None)
@given(lines=st.lists(LINES, max_size=12), chunk_bytes=st.integers(1, 200))
def test_counts_on_disk_add_up_for_chunks_of_any_size(tmp_path_factory, lines, chunk_bytes):
    folder = tmp_path_factory.mktemp("counts")
    (folder / "train.jsonl").write_bytes(b"\n".join([json.dumps(pair(1)).encode(), *lines]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpo_data.readers.rows.CHUNK_BYTES", chunk_bytes)
        manifest = convert("pairs", [folder / "train.jsonl"], output=folder / "out", max_invalid=1, form="text")
    assert manifest.rows_read == manifest.pairs + manifest.quarantined
    assert manifest.pairs == len(kept_lines(folder / "out"))
    quarantine = folder / "out" / "quarantine" / "train.jsonl"
    codes = [json.loads(line)["code"] for line in quarantine.read_bytes().splitlines()] if quarantine.exists() else []
    assert manifest.quarantined == len(codes) == sum(manifest.quarantined_by_code.values())
