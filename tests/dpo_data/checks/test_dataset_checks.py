"""Dataset checks: what they find in row keys, in buckets on disk, and in a converted folder."""

from collections.abc import Sequence
from pathlib import Path

import networkx as nx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_data import convert, open_prepared
from dpo_data.checks import CHECKS
from dpo_data.checks.check import ROW_KEY
from dpo_data.checks.counts import MAX_EXAMPLES, CodeCounts
from dpo_data.checks.row_keys import BUCKETS, RowKeyStore, RowPosition, row_keys, run_dataset_checks
from dpo_data.records import ConversationalPair, Message, TextPair, pair_keys

TRAIN, TEST = 0, 1


def text(prompt: str = "p", chosen: str = "a", rejected: str = "b") -> TextPair:
    return TextPair(prompt=prompt, chosen=chosen, rejected=rejected)


def conversation(*prompt: str) -> ConversationalPair:
    return ConversationalPair(
        prompt=[Message(role="user", content=content) for content in prompt],
        chosen=[Message(role="assistant", content="Cross the ends.")],
        rejected=[Message(role="assistant", content="Ask your mother.")],
    )


def keys_of(rows: Sequence[tuple[str, str, str, int]]) -> np.ndarray:
    """Return the keys of (prompt, chosen, rejected, split) rows."""
    tables = [row_keys([pair_keys(text(p, c, r))], split) for p, c, r, split in rows]
    table = np.concatenate([np.empty(0, ROW_KEY), *tables])
    table["index"] = np.arange(len(rows))
    return table


def found(code: str, rows: Sequence[tuple[str, str, str, int]]) -> list[tuple[int, int]]:
    return sorted(map(tuple, CHECKS[code].find(keys_of(rows)).tolist()))


def test_a_pair_and_its_swap_share_the_unordered_key_but_not_the_pair_key():
    one, swapped = pair_keys(text(chosen="a", rejected="b")), pair_keys(text(chosen="b", rejected="a"))
    assert one.prompt == swapped.prompt
    assert one.unordered == swapped.unordered
    assert one.pair != swapped.pair


def test_keys_distinguish_where_one_field_ends_and_the_next_starts():
    assert pair_keys(text("ab", "c", "d")).pair != pair_keys(text("a", "bc", "d")).pair
    assert pair_keys(conversation("a", "b")).prompt != pair_keys(conversation("a\n\nb")).prompt


def test_a_repeated_pair_is_found_with_its_first_row():
    rows = [("p", "a", "b", TRAIN), ("p", "a", "c", TRAIN), ("p", "a", "b", TRAIN), ("q", "a", "b", 0)]
    assert found("duplicate_pair", [*rows, ("p", "a", "b", TEST)]) == [(2, 0), (4, 0)]
    assert found("duplicate_pair", rows[:2]) == []


def test_a_swapped_pair_is_found_with_the_row_that_it_contradicts():
    rows = [("p", "a", "b", TRAIN), ("p", "b", "a", TRAIN), ("q", "b", "a", TRAIN), ("p", "b", "a", TEST)]
    assert found("contradiction", rows) == [(1, 0), (3, 0)]
    assert found("duplicate_pair", rows) == [(3, 1)]
    assert found("contradiction", [rows[0], rows[2]]) == []


def test_a_test_row_whose_prompt_is_in_train_is_found_with_the_first_such_row_in_any_reading_order():
    rows = [("p", "a", "b", TRAIN), ("p", "c", "d", TEST), ("q", "a", "b", TEST), ("p", "e", "f", TRAIN)]
    assert found("prompt_in_two_splits", rows) == [(1, 0)]
    assert found("prompt_in_two_splits", [*rows, ("q", "x", "y", TRAIN)]) == [(1, 0), (2, 4)]
    assert found("prompt_in_two_splits", rows[::-1]) == [(2, 0)]
    assert found("prompt_in_two_splits", rows[1:3]) == []


def test_a_preference_cycle_is_found_at_the_row_that_completes_it():
    cycle = [("p", "a", "b", TRAIN), ("p", "b", "c", TRAIN), ("p", "c", "a", TRAIN)]
    assert found("preference_cycle", cycle) == [(2, 0)]
    assert found("preference_cycle", [cycle[2], ("p", "a", "d", TEST), cycle[1], cycle[0]]) == [(3, 2)]
    longer = [("p", "a", "b", TRAIN), ("p", "b", "c", TRAIN), ("p", "c", "d", TEST), ("p", "d", "a", TRAIN)]
    assert found("preference_cycle", longer) == [(3, 0)]
    assert found("preference_cycle", [*cycle, cycle[2]]) == [(2, 0)]  # a duplicate completes it once


def test_orders_contradictions_and_other_prompts_are_not_cycles():
    order = [("p", "a", "b", TRAIN), ("p", "b", "c", TRAIN), ("p", "a", "c", TRAIN), ("q", "c", "a", TRAIN)]
    assert found("preference_cycle", order) == []
    assert found("preference_cycle", [("p", "a", "b", TRAIN), ("p", "b", "a", TRAIN)]) == []
    assert found("preference_cycle", []) == []


def test_a_row_that_contradicts_one_row_and_completes_a_cycle_with_others_is_found():
    rows = [("p", "a", "b", TRAIN), ("p", "b", "a", TRAIN), ("p", "b", "c", TRAIN), ("p", "c", "a", TRAIN)]
    # c > a completes a > b > c; the contradiction a > b > a is not a cycle.
    assert found("preference_cycle", rows) == [(3, 0)]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.just("p"), st.sampled_from("abcde"), st.sampled_from("abcde"), st.just(0)), max_size=9)
)
def test_cycles_are_found_exactly_where_networkx_finds_them(rows):
    rows = [row for row in rows if row[1] != row[2]]
    graph = nx.DiGraph([row[1:3] for row in rows])
    cycles = any(len(cycle) > 2 for cycle in nx.simple_cycles(graph))
    assert bool(found("preference_cycle", rows)) == cycles


RESPONSES = st.sampled_from(["a", "b", "c"])


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("pqr"), RESPONSES, RESPONSES, st.integers(0, 1)), max_size=12),
    batch=st.integers(1, 5),
)
def test_buckets_on_disk_give_the_same_findings_as_all_rows_at_once(tmp_path_factory, rows, batch):
    expected = {
        "duplicate_pair": sum(row[:3] in {r[:3] for r in rows[:i]} for i, row in enumerate(rows)),
        "contradiction": sum(
            next(r[1:3] for r in rows if r[0] == row[0] and {*r[1:3]} == {*row[1:3]}) != row[1:3] for row in rows
        ),
        "prompt_in_two_splits": sum(row[3] == TEST and (row[0], TRAIN) in {(r[0], r[3]) for r in rows} for row in rows),
        "preference_cycle": len(found("preference_cycle", rows)),
    }
    # tmp_path would be shared by all examples of hypothesis.
    store = RowKeyStore(tmp_path_factory.mktemp("keys") / "keys")
    for start in range(0, len(rows), batch):
        store.add(keys_of(rows[start : start + batch]))
    counts = run_dataset_checks(store, [CHECKS[code] for code in expected], lambda row: f"row {row.position}")
    store.remove()
    assert dict(counts.rows) == {code: number for code, number in expected.items() if number}


def test_a_bucket_keeps_reading_order_and_all_rows_of_a_prompt(tmp_path):
    rows = [(f"prompt {n % 40}", f"a{n}", "b", TRAIN) for n in range(200)]
    store = RowKeyStore(tmp_path / "keys")
    for start in range(0, 200, 30):
        keys = keys_of(rows[start : start + 30])
        keys["index"] += start
        store.add(keys)
    buckets = list(store.buckets())
    assert len(buckets) == BUCKETS
    assert sorted(int(key["index"]) for keys in buckets for key in keys) == list(range(200))
    buckets_by_prompt: dict[bytes, int] = {}
    for number, keys in enumerate(buckets):
        assert list(keys["index"]) == sorted(keys["index"])
        for key in keys:
            assert buckets_by_prompt.setdefault(key["prompt"].tobytes(), number) == number
    assert len(buckets_by_prompt) == 40


def test_examples_are_the_first_rows_in_reading_order_across_buckets(tmp_path):
    rows = [(f"prompt {n}", "a", "b", TRAIN) for n in range(20)]
    store = RowKeyStore(tmp_path / "keys")
    store.add(keys_of([*rows, *rows]))
    requested: list[RowPosition] = []

    def origin_of(row: RowPosition) -> str:
        requested.append(row)
        return f"x.jsonl:{row.position + 1}"

    counts = run_dataset_checks(store, [CHECKS["duplicate_pair"]], origin_of)
    assert counts.rows == {"duplicate_pair": 20}
    assert counts.examples["duplicate_pair"] == [
        f"x.jsonl:{n}: the same prompt, chosen and rejected as an earlier row (x.jsonl:{n - 20})."
        for n in (21, 22, 23, 24, 25)
    ]
    assert len(requested) == 2 * MAX_EXAMPLES


def test_findings_of_dataset_checks_name_both_rows_and_keep_all_pairs(tmp_path, write_rows):
    rows = [("p", "a", "b"), ("q", "a", "b"), ("p", "a", "b"), ("p", "b", "a")]
    as_rows = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in rows]
    train = write_rows(tmp_path / "in" / "train.jsonl", as_rows)
    test = write_rows(tmp_path / "in" / "test.jsonl", [{"prompt": "q", "chosen": "c", "rejected": "d"}])
    manifest = convert("pairs", [train, test], output=tmp_path / "out")
    assert (manifest.rows_read, manifest.pairs) == (5, 5)
    assert {code: warned.examples for code, warned in manifest.warnings.items()} == {
        "duplicate_pair": [
            "in/train.jsonl:3: the same prompt, chosen and rejected as an earlier row (in/train.jsonl:1)."
        ],
        "contradiction": [
            "in/train.jsonl:4: the opposite preference of an earlier row: A over B and B over A for the same prompt "
            "(in/train.jsonl:1)."
        ],
        "prompt_in_two_splits": [
            "in/test.jsonl:1: the prompt is also in another split (in/train.jsonl:2).",
        ],
    }


def test_findings_have_the_right_origins_across_shards(tmp_path, write_rows, monkeypatch):
    monkeypatch.setattr("dpo_data.prepared.writer.SHARD_ROWS", 3)
    rows = [{"prompt": f"prompt {n}", "chosen": "a", "rejected": "b"} for n in range(8)]
    raw = write_rows(Path(tmp_path, "in", "train.jsonl"), [*rows, rows[6], rows[1]])
    manifest = convert("pairs", [raw], output=tmp_path / "out")
    assert len(open_prepared(tmp_path / "out").manifest.splits["train"].shards) == 4
    assert manifest.warnings["duplicate_pair"].examples == [
        "in/train.jsonl:9: the same prompt, chosen and rejected as an earlier row (in/train.jsonl:7).",
        "in/train.jsonl:10: the same prompt, chosen and rejected as an earlier row (in/train.jsonl:2).",
    ]


def test_counts_keep_the_first_examples_in_reading_order():
    counts = CodeCounts()
    for n in range(4):
        later = CodeCounts()
        later.add("b", [f"{n}.1", f"{n}.2"])
        counts.merge(later)
    counts.add("a", ["x"], rows=7)
    assert counts.in_order(["a"]) == {"a": (7, ["x"]), "b": (8, ["0.1", "0.2", "1.1", "1.2", "2.1"])}
