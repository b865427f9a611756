"""Each check finds its own defect and leaves a clean row alone; codes move between error and warning as asked."""

from collections.abc import Sequence
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_data import convert, open_prepared
from dpo_data.checks import (
    CHECK_HINTS,
    DATASET_CHECKS,
    DEEP_DATASET_CHECKS,
    DEEP_ROW_CHECKS,
    ROW_CHECKS,
    run_row_checks,
    select_row_checks,
)
from dpo_data.checks.bad_characters import BAD_CHARACTERS
from dpo_data.checks.check import ROW_KEY, Finding, RowCheck
from dpo_data.checks.contradiction import CONTRADICTION
from dpo_data.checks.counts import MAX_EXAMPLES, CodeCounts
from dpo_data.checks.duplicate_pair import DUPLICATE_PAIR
from dpo_data.checks.empty_prompt import EMPTY_PROMPT
from dpo_data.checks.empty_response import EMPTY_RESPONSE
from dpo_data.checks.eos_in_response import EOS_IN_RESPONSE, for_tokenizer
from dpo_data.checks.identical_responses import IDENTICAL_RESPONSES
from dpo_data.checks.preference_cycle import PREFERENCE_CYCLE
from dpo_data.checks.prompt_in_two_splits import PROMPT_IN_TWO_SPLITS
from dpo_data.checks.repeated_role import REPEATED_ROLE
from dpo_data.checks.response_repeats_prompt import RESPONSE_REPEATS_PROMPT
from dpo_data.checks.role_marker_in_response import ROLE_MARKER_IN_RESPONSE
from dpo_data.checks.row_keys import BUCKETS, RowKeyStore, RowPosition, row_keys, run_dataset_checks
from dpo_data.checks.scores_against_label import SCORES_AGAINST_LABEL
from dpo_data.checks.template_marker import TEMPLATE_MARKER
from dpo_data.errors import ROW_ERRORS, UsageError
from dpo_data.records import ConversationalPair, Message, PreferencePair, TextPair, pair_keys

ASK = "\n\nHuman: How do I tie a bow?\n\nAssistant:"
CLEAN_TEXT = TextPair(prompt=ASK, chosen=" Cross the ends.", rejected=" Ask your mother.")


def text(prompt: str = ASK, chosen: str = " Cross the ends.", rejected: str = " Ask your mother.") -> TextPair:
    return TextPair(prompt=prompt, chosen=chosen, rejected=rejected)


def talk(*turns: tuple[str, str]) -> list[Message]:
    return [Message(role=role, content=content) for role, content in turns]


def messages(prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> ConversationalPair:
    return ConversationalPair(prompt=prompt, chosen=chosen, rejected=rejected)


BOW = talk(("user", "How do I tie a bow?"))
YES, NO = talk(("assistant", "Cross the ends.")), talk(("assistant", "Ask your mother."))
CLEAN_MESSAGES = messages(BOW, YES, NO)


def scored(chosen: float | None, rejected: float | None, margin: float | None = None) -> TextPair:
    return CLEAN_TEXT.model_copy(update={"chosen_score": chosen, "rejected_score": rejected, "margin": margin})


#: Check, pair, field, message.
DEFECTS: list[tuple[RowCheck, PreferencePair, str, str]] = [
    (EMPTY_PROMPT, text(prompt=""), "prompt", "prompt is empty."),
    (EMPTY_PROMPT, text(prompt=" \n\u00a0\t"), "prompt", "prompt is empty."),
    (EMPTY_PROMPT, text(prompt="\n\nHuman: \n\nAssistant:"), "prompt", "prompt is empty."),
    (EMPTY_PROMPT, messages(talk(("user", " ")), YES, NO), "prompt", "prompt is empty."),
    (EMPTY_RESPONSE, text(chosen=""), "chosen", "chosen is empty."),
    (EMPTY_RESPONSE, text(rejected=" \n\u2003"), "rejected", "rejected is empty."),
    (EMPTY_RESPONSE, messages(BOW, talk(("assistant", "")), NO), "chosen", "chosen is empty."),
    (IDENTICAL_RESPONSES, text(rejected=" Cross the ends."), "rejected", "chosen and rejected are the same text."),
    (
        IDENTICAL_RESPONSES,
        text(rejected="Cross\u00a0the \n ends. "),
        "rejected",
        "chosen and rejected differ only in white space or Unicode composition.",
    ),
    (
        IDENTICAL_RESPONSES,
        text(chosen="\u00e9t\u00e9", rejected="e\u0301te\u0301"),
        "rejected",
        "chosen and rejected differ only in white space or Unicode composition.",
    ),
    (IDENTICAL_RESPONSES, messages(BOW, YES, YES), "rejected", "chosen and rejected are the same text."),
    (
        REPEATED_ROLE,
        text(prompt="\n\nHuman: Hi\n\nHuman: Ho" + ASK),
        "prompt",
        "prompt has two Human turns in a row.",
    ),
    (REPEATED_ROLE, text(chosen=" a\n\nAssistant: b"), "chosen", "chosen has two Assistant turns in a row."),
    (
        REPEATED_ROLE,
        messages(BOW, YES, [*NO, *NO]),
        "rejected",
        "rejected has two assistant turns in a row.",
    ),
    (
        ROLE_MARKER_IN_RESPONSE,
        text(chosen=" Yes.\nHuman: Thanks"),
        "chosen",
        'chosen has a line that starts with "Human:".',
    ),
    (
        ROLE_MARKER_IN_RESPONSE,
        text(rejected="Assistant: No"),
        "rejected",
        'rejected has a line that starts with "Assistant:".',
    ),
    (
        ROLE_MARKER_IN_RESPONSE,
        messages(BOW, YES, talk(("assistant", "No.\n \tUser: why"))),
        "rejected",
        'rejected has a line that starts with "User:".',
    ),
    (
        BAD_CHARACTERS,
        text(chosen=" Like th\ufffds."),
        "chosen",
        "chosen holds a replacement character (U+FFFD): bytes were lost in decoding.",
    ),
    (BAD_CHARACTERS, text(rejected=" \x00"), "rejected", "rejected holds a control character (U+0000)."),
    (BAD_CHARACTERS, text(prompt="\x1b[0m" + ASK), "prompt", "prompt holds a control character (U+001B)."),
    (BAD_CHARACTERS, text(chosen="caf\x85"), "chosen", "chosen holds a control character (U+0085)."),
    (BAD_CHARACTERS, text(chosen="\x7f"), "chosen", "chosen holds a control character (U+007F)."),
    (
        RESPONSE_REPEATS_PROMPT,
        text(chosen=" How do I tie a bow? Cross the ends."),
        "chosen",
        "chosen starts with the prompt.",
    ),
    (
        RESPONSE_REPEATS_PROMPT,
        text("What is the capital of Peru?", "Lima", "What is the capital of Peru? Lima"),
        "rejected",
        "rejected starts with the prompt.",
    ),
    (
        RESPONSE_REPEATS_PROMPT,
        messages(BOW, YES, talk(("assistant", "How do I tie a bow? No."))),
        "rejected",
        "rejected starts with the prompt.",
    ),
    *(
        (
            TEMPLATE_MARKER,
            text(chosen=f" Yes.{marker} more"),
            "chosen",
            f'chosen holds the chat template marker "{marker}".',
        )
        for marker in (
            *("<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<|eot_id|>", "<extra_id_1>"),
            *("<start_of_turn>", "<end_of_turn>", "<|start_header_id|>", "<|user|>", "<|channel|>"),
            *("<|START_OF_TURN_TOKEN|>", "<\uff5cUser\uff5c>"),
        )
    ),
    (
        TEMPLATE_MARKER,
        messages(talk(("user", "<<SYS>> Be kind.")), YES, NO),
        "prompt",
        'prompt holds the chat template marker "<<SYS>>".',
    ),
    *(
        (
            EOS_IN_RESPONSE,
            text(rejected=f" No.{eos}"),
            "rejected",
            f'rejected holds "{eos}", which many tokenizers read as the end of the sequence.',
        )
        for eos in ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<\uff5cend\u2581of\u2581sentence\uff5c>")
    ),
    (SCORES_AGAINST_LABEL, scored(1, 4.5), "chosen_score", "chosen has the score 1, rejected the higher one 4.5."),
    (SCORES_AGAINST_LABEL, scored(None, None, -2), "margin", "the margin is -2: rejected is the better one."),
]

#: Rows that look like a defect and are none.
CLEAN: list[PreferencePair] = [
    CLEAN_TEXT,
    CLEAN_MESSAGES,
    text("Hi", "Hi there", "Hi!"),  # a short prompt is repeated by good answers too
    text(chosen=" Humans: yes. A Human: no.", rejected=" The Assistant:"),
    text(chosen=" Tabs\tand\r\nlines", rejected=" caf\u00e9 \u00a0 \u200b \U0001f600 \u2028"),
    text(chosen=" cross the ends.", rejected=" Cross the ends."),
    text(chosen=" a b", rejected=" ab"),
    text(prompt="\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: How do I tie a bow?\n\nAssistant:"),
    messages(
        [*talk(("system", "Be brief."), ("system", "Be kind.")), *BOW],
        talk(("assistant", "Let me look."), ("tool", "1"), ("tool", "2"), ("assistant", "So.")),
        NO,
    ),
    messages(talk(("user", ""), ("assistant", ""), ("user", "Who are you?")), YES, NO),
    text(chosen=" <p>a < b</p> <s> [1] [inst]", rejected=" vector<int> x; if (a <| b) {} // INST"),
    text(prompt="What does </s> mean?"),  # a prompt may speak of it
    scored(4, 1, 3),
    scored(2, 2, 0),
    scored(None, 3),
]


def finding(check: RowCheck, pair: PreferencePair) -> Finding | None:
    return check.find(pair, pair.texts)


def codes(pair: PreferencePair) -> list[str]:
    return [check.code for check, _ in run_row_checks(pair, ROW_CHECKS)]


@pytest.mark.parametrize(("check", "pair", "field", "message"), DEFECTS)
def test_a_check_finds_its_defect_and_names_the_field(check, pair, field, message):
    assert finding(check, pair) == (field, message)
    assert check.code in codes(pair)


def test_every_row_check_has_a_defect_above():
    assert {check.code for check, *_ in DEFECTS} == {check.code for check in ROW_CHECKS}


@pytest.mark.parametrize("pair", CLEAN)
def test_a_clean_row_is_left_alone_by_every_check(pair):
    assert codes(pair) == []


def test_what_cannot_be_trained_on_is_an_error_and_all_else_a_warning():
    assert {check.code: check.severity for check in ROW_CHECKS} == {
        "empty_prompt": "error",
        "empty_response": "error",
        "identical_responses": "error",
        "repeated_role": "warning",
        "role_marker_in_response": "warning",
        "bad_characters": "warning",
        "response_repeats_prompt": "warning",
        "template_marker": "warning",
        "eos_in_response": "warning",
        "scores_against_label": "warning",
    }


def test_codes_are_said_once_and_all_have_hints():
    row = [check.code for check in (*ROW_CHECKS, *DEEP_ROW_CHECKS)] + ["contamination"]
    dataset = [check.code for check in (*DATASET_CHECKS, *DEEP_DATASET_CHECKS)]
    assert len({*row, *dataset, *ROW_ERRORS}) == len(row) + len(dataset) + len(ROW_ERRORS)
    assert all(CHECK_HINTS[code] for code in row + dataset)
    assert sorted(CHECK_HINTS) == sorted(row + dataset)


def test_the_end_token_of_a_tokenizer_is_looked_for_beside_the_usual_ones():
    check = for_tokenizer(EOS_IN_RESPONSE, "[SEP]")
    assert (check.code, check.severity) == ("eos_in_response", "warning")
    message = 'chosen holds "[SEP]", which the tokenizer reads as the end of the sequence.'
    assert finding(check, text(chosen="a[SEP]")) == ("chosen", message)
    assert finding(check, text(chosen="a</s>")).field == "chosen"
    assert finding(check, CLEAN_TEXT) is None


def test_one_row_may_have_several_warnings_and_stops_at_its_first_error():
    pair = text(chosen=" \ufffd\n\nAssistant: x")
    assert codes(pair) == ["repeated_role", "role_marker_in_response", "bad_characters"]
    assert codes(text(prompt="", chosen="", rejected="\x00")) == ["empty_prompt"]


# Moving codes.

ROWS = [
    {"prompt": "One?", "chosen": "a", "rejected": "b"},
    {"prompt": "Two?", "chosen": "a\x00", "rejected": "b"},
    {"prompt": "Three?", "chosen": "a", "rejected": "a"},
]


def test_without_options_errors_go_and_warnings_stay(tmp_path, write_rows):
    manifest = convert("pairs", [write_rows(tmp_path / "a.jsonl", ROWS)], output=tmp_path / "out", max_invalid=1)
    assert manifest.quarantined_by_code == {"identical_responses": 1}
    assert {code: warned.rows for code, warned in manifest.warnings.items()} == {"bad_characters": 1}


def test_a_forbidden_warning_quarantines_and_an_allowed_error_stays(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", ROWS)
    manifest = convert(
        "pairs",
        [raw],
        output=tmp_path / "out",
        max_invalid=1,
        forbid=["bad_characters"],
        allow=["identical_responses"],
    )
    assert manifest.quarantined_by_code == {"bad_characters": 1}
    assert {code: (w.rows, w.examples) for code, w in manifest.warnings.items()} == {
        "identical_responses": (1, [f"{tmp_path.name}/a.jsonl:3: chosen and rejected are the same text."])
    }
    assert (manifest.options.forbid, manifest.options.allow) == (["bad_characters"], ["identical_responses"])


@pytest.mark.parametrize("code", ROW_ERRORS)
@pytest.mark.parametrize("option", ["forbid", "allow"])
def test_codes_of_rows_that_are_no_pairs_cannot_be_moved(code, option):
    with pytest.raises(UsageError) as caught:
        select_row_checks(**{option: [code]})
    assert str(caught.value) == (f"{code} cannot be allowed or forbidden: there is no pair to keep in such a row.")


@pytest.mark.parametrize("code", ["duplicate_pair", "nonsense"])
def test_codes_of_no_row_check_cannot_be_moved(code):
    with pytest.raises(UsageError) as caught:
        select_row_checks(forbid=[code])
    assert str(caught.value) == (
        f"{code} is not the code of a row check.\n"
        "  Row checks: bad_characters, empty_prompt, empty_response, eos_in_response, "
        "identical_responses, repeated_role, response_repeats_prompt, role_marker_in_response, "
        "scores_against_label, template_marker."
    )


def test_a_code_cannot_be_both_forbidden_and_allowed():
    with pytest.raises(UsageError) as caught:
        select_row_checks(forbid=["bad_characters"], allow=["bad_characters"])
    assert str(caught.value) == "bad_characters: both forbidden and allowed. Name each code once."


# Checks over the whole data set.

TRAIN, TEST = 0, 1


def keys_of(rows: Sequence[tuple[str, str, str, int]]) -> np.ndarray:
    """Keys of (prompt, chosen, rejected, split) rows in their order."""
    tables = [row_keys([pair_keys(text(p, c, r))], split) for p, c, r, split in rows]
    table = np.concatenate([np.empty(0, ROW_KEY), *tables])
    table["index"] = np.arange(len(rows))
    return table


def found(check: object, rows: Sequence[tuple[str, str, str, int]]) -> list[tuple[int, int]]:
    return sorted(map(tuple, check.find(keys_of(rows)).tolist()))


def test_keys_of_a_pair_and_its_swap_share_the_unordered_hash_alone():
    one, swapped = pair_keys(text(chosen="a", rejected="b")), pair_keys(text(chosen="b", rejected="a"))
    assert one.prompt == swapped.prompt
    assert one.unordered == swapped.unordered
    assert one.pair != swapped.pair


def test_keys_do_not_run_the_fields_together():
    assert pair_keys(text("ab", "c", "d")).pair != pair_keys(text("a", "bc", "d")).pair
    one = messages(talk(("user", "a"), ("user", "b")), YES, NO)
    other = messages(talk(("user", "a\n\nb")), YES, NO)
    assert pair_keys(one).prompt != pair_keys(other).prompt


def test_a_repeated_pair_is_found_with_its_first_row():
    rows = [("p", "a", "b", TRAIN), ("p", "a", "c", TRAIN), ("p", "a", "b", TRAIN), ("q", "a", "b", 0)]
    assert found(DUPLICATE_PAIR, [*rows, ("p", "a", "b", TEST)]) == [(2, 0), (4, 0)]
    assert found(DUPLICATE_PAIR, rows[:2]) == []


def test_a_swapped_pair_is_found_with_the_row_that_it_contradicts():
    rows = [("p", "a", "b", TRAIN), ("p", "b", "a", TRAIN), ("q", "b", "a", TRAIN), ("p", "b", "a", TEST)]
    assert found(CONTRADICTION, rows) == [(1, 0), (3, 0)]
    assert found(DUPLICATE_PAIR, rows) == [(3, 1)]
    assert found(CONTRADICTION, [rows[0], rows[2]]) == []


def test_a_prompt_in_both_splits_is_found_with_its_first_row():
    rows = [("p", "a", "b", TRAIN), ("p", "c", "d", TEST), ("q", "a", "b", TEST), ("p", "e", "f", TRAIN)]
    assert found(PROMPT_IN_TWO_SPLITS, rows) == [(1, 0)]
    assert found(PROMPT_IN_TWO_SPLITS, [*rows, ("q", "x", "y", TRAIN)]) == [(1, 0), (4, 2)]


def test_a_circle_of_preferences_is_found_at_the_row_that_closes_it():
    circle = [("p", "a", "b", TRAIN), ("p", "b", "c", TRAIN), ("p", "c", "a", TRAIN)]
    assert found(PREFERENCE_CYCLE, circle) == [(2, 0)]
    assert found(PREFERENCE_CYCLE, [circle[2], ("p", "a", "d", TEST), circle[1], circle[0]]) == [(3, 2)]
    longer = [("p", "a", "b", TRAIN), ("p", "b", "c", TRAIN), ("p", "c", "d", TEST), ("p", "d", "a", TRAIN)]
    assert found(PREFERENCE_CYCLE, longer) == [(3, 0)]
    assert found(PREFERENCE_CYCLE, [*circle, circle[2]]) == [(2, 0)]  # a pair that stands twice closes it once


def test_orders_contradictions_and_other_prompts_are_no_circle():
    order = [("p", "a", "b", TRAIN), ("p", "b", "c", TRAIN), ("p", "a", "c", TRAIN), ("q", "c", "a", TRAIN)]
    assert found(PREFERENCE_CYCLE, order) == []
    assert found(PREFERENCE_CYCLE, [("p", "a", "b", TRAIN), ("p", "b", "a", TRAIN)]) == []
    assert found(PREFERENCE_CYCLE, []) == []


def test_a_row_that_contradicts_one_and_closes_a_circle_with_others_is_found():
    rows = [("p", "a", "b", TRAIN), ("p", "b", "a", TRAIN), ("p", "b", "c", TRAIN), ("p", "c", "a", TRAIN)]
    # c > a closes a > b > c; its way back over the contradiction, a > b > a, is none.
    assert found(PREFERENCE_CYCLE, rows) == [(3, 0)]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.just("p"), st.sampled_from("abcde"), st.sampled_from("abcde"), st.just(0)), max_size=9)
)
def test_circles_are_found_where_a_graph_library_finds_them(rows):
    rows = [row for row in rows if row[1] != row[2]]
    graph = nx.DiGraph([row[1:3] for row in rows])
    circles = any(len(circle) > 2 for circle in nx.simple_cycles(graph))
    assert bool(found(PREFERENCE_CYCLE, rows)) == circles


RESPONSES = st.sampled_from(["a", "b", "c"])


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("pqr"), RESPONSES, RESPONSES, st.integers(0, 1)), max_size=12),
    batch=st.integers(1, 5),
)
def test_buckets_on_disk_find_what_one_look_at_all_rows_finds(tmp_path_factory, rows, batch):
    expected = {
        "duplicate_pair": sum(row[:3] in {r[:3] for r in rows[:i]} for i, row in enumerate(rows)),
        "contradiction": sum(
            next(r[1:3] for r in rows if r[0] == row[0] and {*r[1:3]} == {*row[1:3]}) != row[1:3] for row in rows
        ),
        "prompt_in_two_splits": sum(next(r[3] for r in rows if r[0] == row[0]) != row[3] for row in rows),
        "preference_cycle": len(found(PREFERENCE_CYCLE, rows)),
    }
    # A folder of its own for each example.
    store = RowKeyStore(tmp_path_factory.mktemp("keys") / "keys")
    for start in range(0, len(rows), batch):
        store.add(keys_of(rows[start : start + batch]))
    counts = run_dataset_checks(store, DATASET_CHECKS, lambda place: f"row {place.position}")
    store.remove()
    assert dict(counts.rows) == {code: number for code, number in expected.items() if number}


def test_a_bucket_keeps_the_order_of_reading_and_whole_prompts(tmp_path):
    rows = [(f"prompt {n % 40}", f"a{n}", "b", TRAIN) for n in range(200)]
    store = RowKeyStore(tmp_path / "keys")
    for start in range(0, 200, 30):
        keys = keys_of(rows[start : start + 30])
        keys["index"] += start
        store.add(keys)
    buckets = list(store.buckets())
    assert len(buckets) == BUCKETS
    assert sorted(int(key["index"]) for keys in buckets for key in keys) == list(range(200))
    places: dict[bytes, int] = {}
    for number, keys in enumerate(buckets):
        assert list(keys["index"]) == sorted(keys["index"])
        for key in keys:
            assert places.setdefault(key["prompt"].tobytes(), number) == number
    assert len(places) == 40


def test_examples_are_the_first_rows_of_reading_whatever_bucket_they_lie_in(tmp_path):
    rows = [(f"prompt {n}", "a", "b", TRAIN) for n in range(20)]
    store = RowKeyStore(tmp_path / "keys")
    store.add(keys_of([*rows, *rows]))
    asked: list[RowPosition] = []

    def origin_of(place: RowPosition) -> str:
        asked.append(place)
        return f"x.jsonl:{place.position + 1}"

    counts = run_dataset_checks(store, [DUPLICATE_PAIR], origin_of)
    assert counts.rows == {"duplicate_pair": 20}
    assert counts.examples["duplicate_pair"] == [
        f"x.jsonl:{n}: the same prompt, chosen and rejected as an earlier row (x.jsonl:{n - 20})."
        for n in (21, 22, 23, 24, 25)
    ]
    assert len(asked) == 2 * MAX_EXAMPLES


def test_findings_over_the_data_set_name_both_rows_and_remove_none(tmp_path, write_rows):
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
            "in/train.jsonl:4: the swap of an earlier row: A over B and B over A for one prompt (in/train.jsonl:1)."
        ],
        "prompt_in_two_splits": [
            "in/test.jsonl:1: the prompt also stands in another split (in/train.jsonl:2).",
        ],
    }


def test_findings_are_placed_right_across_shards(tmp_path, write_rows, monkeypatch):
    monkeypatch.setattr("dpo_data.prepared.writer.SHARD_ROWS", 3)
    rows = [{"prompt": f"prompt {n}", "chosen": "a", "rejected": "b"} for n in range(8)]
    raw = write_rows(Path(tmp_path, "in", "train.jsonl"), [*rows, rows[6], rows[1]])
    manifest = convert("pairs", [raw], output=tmp_path / "out")
    assert len(open_prepared(tmp_path / "out").manifest.splits["train"].shards) == 4
    assert manifest.warnings["duplicate_pair"].examples == [
        "in/train.jsonl:9: the same prompt, chosen and rejected as an earlier row (in/train.jsonl:7).",
        "in/train.jsonl:10: the same prompt, chosen and rejected as an earlier row (in/train.jsonl:2).",
    ]


def test_counts_keep_the_first_examples_in_the_order_of_reading():
    counts = CodeCounts()
    for n in range(4):
        later = CodeCounts()
        later.add("b", [f"{n}.1", f"{n}.2"])
        counts.merge(later)
    counts.add("a", ["x"], rows=7)
    assert counts.in_order(["a"]) == {"a": (7, ["x"]), "b": (8, ["0.1", "0.2", "1.1", "1.2", "2.1"])}
