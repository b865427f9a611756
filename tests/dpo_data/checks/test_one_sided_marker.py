"""one_sided_marker: a mark with which only chosen, or only rejected, responses begin or end."""

from pathlib import Path

import pytest

from dpo_data import convert, validate
from dpo_data.checks.one_sided_marker import OneSidedMarks, marks

CASES = Path(__file__).parents[2] / "fixtures" / "cases"


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("Yes", "No", []),
        (" Yes", " No", []),
        ("Yes\n", "No\n", []),
        ("Yes", " No", [("begins with a space", "rejected")]),
        (" Yes", "  No", [("begins with a space", "rejected")]),
        ("\nYes", "No", [("begins with a line break", "chosen")]),
        ("Yes ", "No\n\n", [("ends with a line break", "rejected")]),
        ("Yes </s>", "No", [('ends with "</s>"', "chosen")]),
        ("Yes<|im_end|>\n", "No<|im_end|>\n", []),
        (
            "Yes<|im_end|>",
            "No<|eot_id|>",
            [('ends with "<|im_end|>"', "chosen"), ('ends with "<|eot_id|>"', "rejected")],
        ),
        ("Assistant: Yes", "No", [('begins with "Assistant:"', "chosen")]),
        ("### Response: Yes", "No", [('begins with "### Response:"', "chosen")]),
        ("Answer: Yes", "Answer: No", []),
        ("", " No", []),
    ],
)
def test_marks_are_what_one_response_has_beyond_the_other(chosen, rejected, expected):
    assert list(marks(("Hi", chosen, rejected))) == expected


def counted(*sides: str, pairs: int | None = None) -> dict[str, int]:
    """Count pairs in which a side, or neither, begins with a space."""
    found = OneSidedMarks()
    for number, side in enumerate(sides):
        spaces = {name: " " if side == name else "" for name in ("chosen", "rejected")}
        found.add(f"f:{number + 1}", ("Hi", f"{spaces['chosen']}Yes", f"{spaces['rejected']}No"))
    found.pairs = pairs or found.pairs
    return dict(found.findings().rows)


def test_a_mark_on_one_side_of_enough_pairs_is_found():
    assert counted(*["rejected"] * 5) == {"one_sided_marker": 5}
    assert counted(*["rejected"] * 4) == {}
    assert counted(*["chosen"] * 20, *["rejected"] * 2) == {"one_sided_marker": 20}
    assert counted(*["chosen"] * 20, *["rejected"] * 3) == {}
    assert counted(*["chosen"] * 20, *["none"] * 380) == {"one_sided_marker": 20}
    assert counted(*["chosen"] * 20, *["none"] * 381) == {}


def test_the_rejected_answers_of_orca_that_begin_with_a_space_are_found(tmp_path):
    manifest = convert("orca-dpo-pairs", CASES / "17" / "raw.jsonl", output=tmp_path / "out")
    warning = manifest.warnings["one_sided_marker"]
    assert (warning.rows, len(warning.examples)) == (6, 5)
    assert warning.examples[0] == (
        "17/raw.jsonl:1: rejected begins with a space, and the other does not: in 6 pairs; the other way in 0."
    )
    report = validate(tmp_path / "out")
    assert report.findings["one_sided_marker"].examples == warning.examples
    conversational = validate(CASES / "17" / "raw.jsonl", source="orca-dpo-pairs", form="conversational")
    assert conversational.findings["one_sided_marker"].rows == 6


def test_any_number_of_workers_finds_the_same(tmp_path, write_rows, monkeypatch):
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", 2000)
    rows = [{"prompt": f"Q{n}?", "chosen": "Yes", "rejected": " No" if n % 5 else "No"} for n in range(2000)]
    raw = write_rows(tmp_path / "a.jsonl", rows)
    one, two = (convert("pairs", raw, output=tmp_path / str(n), workers=n).warnings for n in (1, 2))
    assert one == two
    assert one["one_sided_marker"].rows == 1600
