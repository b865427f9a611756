"""Rows converted column by column: what becomes of them is what becomes of them one by one."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_data.conversion import chunks
from dpo_data.conversion.chunks import ConvertedChunk, convert_chunk
from dpo_data.conversion.plain import plain_runs
from dpo_data.conversion.plan import make_plan
from dpo_data.readers.jsonl import parse_lines
from dpo_data.readers.rows import Chunk
from dpo_data.sources import load_source

PROMPT = "\n\nHuman: Tea or coffee?\n\nAssistant:"
REPLIES = st.sampled_from(
    [
        *(" Tea.", " Coffee.", "Tea", "", " ", " Tea.\n", " <|im_end|>", " a\u00e9", " null", " x\nHuman: y", "\ud800"),
        *("\n\nHuman: More?\n\nAssistant: Yes.", "\n\nAssistant: Again.", " \ufffd", " Tea or coffee? Both."),
    ]
)
PROMPTS = st.sampled_from([PROMPT, "\n\nHuman: \n\nAssistant:", f"{PROMPT} Both.{PROMPT}", "No dialogue", ""])
SIDES = st.builds(
    lambda prompt, chosen, rejected: {"chosen": prompt + chosen, "rejected": prompt + rejected},
    PROMPTS,
    REPLIES,
    REPLIES,
)
ORDINARY = {"chosen": f"{PROMPT} Tea.", "rejected": f"{PROMPT} Coffee."}
ROWS = st.one_of(
    st.just(ORDINARY),
    SIDES,
    SIDES.map(lambda row: {**row, "annotator": "A", "context": "?"}),
    SIDES.map(lambda row: {**row, "rejected": None}),
    st.just({"chosen": "x"}),
    st.just([1]),
)


def converted(lines: list[str], *, by_row: bool, **options: Any) -> ConvertedChunk:
    """Return the chunk that lines of hh-rlhf become; `by_row` leaves all of them to the adapter."""
    job = make_plan("hh-rlhf", ["train.jsonl"], **options).job
    chunk = Chunk("train.jsonl", "train", 1, "\n".join(lines).encode("utf-8", "surrogateescape"), parse_lines)
    with pytest.MonkeyPatch.context() as patch:
        if by_row:
            source = replace(load_source("hh-rlhf"), adapt_columns=None)
            patch.setattr(chunks, "load_source", lambda name: source)
        return convert_chunk(chunk, job)


@settings(deadline=None)
@given(
    rows=st.lists(ROWS, max_size=8),
    broken=st.booleans(),
    options=st.sampled_from([{}, {"forbid": ["null_response"]}]),
)
def test_rows_become_the_same_with_and_without_columns(rows: list[Any], broken: bool, options: dict[str, Any]) -> None:
    lines = [json.dumps(row) for row in rows] + ['{"chosen": "x"'] * broken + [json.dumps(ORDINARY)]
    together, by_row = (converted(lines, by_row=by_row, **options) for by_row in (False, True))
    assert {name: batch.to_pydict() for name, batch in together.batches.items()} == {
        name: batch.to_pydict() for name, batch in by_row.batches.items()
    }
    assert {name: keys.tobytes() for name, keys in together.keys.items()} == {
        name: keys.tobytes() for name, keys in by_row.keys.items()
    }
    for chunk in (together, by_row):
        chunk.batches, chunk.keys = {}, {}
    assert (together.judgments is None) == (by_row.judgments is None)
    together.judgments = by_row.judgments = None
    assert together == by_row


def test_ordinary_rows_are_one_run_that_a_row_with_a_finding_ends() -> None:
    lines = [json.dumps(row) for row in (ORDINARY, ORDINARY, {**ORDINARY, "rejected": f"{PROMPT} null"}, ORDINARY)]
    rows = list(parse_lines("\n".join(lines).encode(), 1))
    runs = list(plain_runs(rows, load_source("hh-rlhf"), make_plan("hh-rlhf", ["train.jsonl"]).job))
    assert [(run.start, run.stop) for run in runs] == [(0, 2), (3, 4)]


@pytest.mark.parametrize("options", [{"form": "conversational"}, {"redact": True}, {"test_fraction": 0.5}])
def test_options_that_need_each_row_leave_all_rows_to_the_adapter(options: dict[str, Any]) -> None:
    rows = list(parse_lines(json.dumps(ORDINARY).encode(), 1))
    assert not list(plain_runs(rows, load_source("hh-rlhf"), make_plan("hh-rlhf", ["train.jsonl"], **options).job))
