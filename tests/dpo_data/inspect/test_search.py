"""`dpo-data show`: one pair with its tokens and origin, and the pairs that a trained model ranks worst."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_data import convert, open_prepared, tokenize
from dpo_data.errors import InputError, UsageError
from dpo_data.inspect import pairs
from dpo_data.inspect.run_pairs import worst_pairs
from dpo_data.inspect.search import find, show
from dpo_data.prepared.reader import Prepared, read_manifest

QUESTIONS = ("How far is it?", "How old are you?", "Who is there?")


@pytest.fixture
def prepared(tmp_path):
    raw = tmp_path / "rows.jsonl"
    rows = [{"prompt": q, "chosen": f"yes {i}", "rejected": f"no {i}"} for i, q in enumerate(QUESTIONS)]
    raw.write_text("\n".join(map(json.dumps, rows)) + "\n")
    convert("pairs", [raw], output=tmp_path / "prepared", form="text")
    return tmp_path / "prepared"


@pytest.fixture
def run(tmp_path, prepared):
    """A run that saw the first pair twice, and in the end disagreed with it and with the third."""
    rows = open_prepared(prepared).dataset()["train"]
    measured = [(0, 1, 0.5), (1, 1, 2.0), (2, 2, -0.25), (0, 3, -1.5)]
    columns = {
        "split": ["train"] * len(measured),
        "id": [rows["id"][row] for row, _, _ in measured],
        "origin": [rows["origin"][row] for row, _, _ in measured],
        "step": [step for _, step, _ in measured],
        "margin": [margin for _, _, margin in measured],
    }
    (tmp_path / "run").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "run" / "pairs.parquet")
    return tmp_path / "run"


def test_the_pairs_with_the_lowest_last_margin_come_first(prepared, run):
    pairs = worst_pairs(prepared, run, count=2)
    assert [(pair.prompt, pair.margin, pair.step) for pair in pairs] == [
        ("How far is it?", -1.5, 3),
        ("Who is there?", -0.25, 2),
    ]
    assert pairs[0].origin.endswith("rows.jsonl:1")
    assert (pairs[0].chosen, pairs[0].rejected) == ("yes 0", "no 0")


def test_pairs_that_are_no_longer_in_the_folder_are_left_out(run, make_prepared):
    rows = [{"prompt": q, "chosen": f"yes {i}", "rejected": f"no {i}"} for i, q in enumerate(QUESTIONS)]
    fewer = make_prepared(rows[1:], "fewer")
    assert [pair.prompt for pair in worst_pairs(fewer, run)] == ["Who is there?", "How old are you?"]


def test_a_run_on_other_data_is_refused(prepared, run, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "What else is there?", "chosen": "a", "rejected": "b"}\n')
    convert("pairs", [other], output=tmp_path / "elsewhere", form="text")
    with pytest.raises(UsageError, match="was trained on other data"):
        worst_pairs(tmp_path / "elsewhere", run)


def test_a_folder_without_a_run_is_refused(prepared, tmp_path):
    with pytest.raises(InputError, match=r"pairs\.parquet: there is no such file"):
        worst_pairs(prepared, tmp_path)


def test_a_damaged_file_of_pairs_is_refused(prepared, run):
    (run / "pairs.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match="cannot be read"):
        worst_pairs(prepared, run)


def test_a_file_of_pairs_without_margins_is_refused(prepared, run):
    pq.write_table(pa.table({"id": ["a"]}), run / "pairs.parquet")
    with pytest.raises(InputError, match="has no column split, origin, step, margin; it has id"):
        worst_pairs(prepared, run)


def test_the_command_prints_them_side_by_side(prepared, run, dpo_data):
    code, out, _ = dpo_data("show", prepared, "--run", run, "--worst", "1")
    assert code == 0
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    assert lines[0].startswith("1. margin -1.500   train, step 3")
    assert lines[1:] == [
        "How far is it?",
        "chosen  rejected",
        "yes 0   no 0",
        "1 of these 1 pairs have a negative margin: the model prefers rejected.",
    ]


def test_standard_output_is_only_json(prepared, run, dpo_data):
    _, out, _ = dpo_data("show", prepared, "--run", run, "--json")
    assert [pair["margin"] for pair in json.loads(out)] == [-1.5, -0.25, 2.0]


# One pair: by its position, its origin, its id or its text.

SHOWN = [
    {"prompt": "How far is it?", "chosen": "yes 0", "rejected": "no 0"},
    {"prompt": "How old are you?", "chosen": "", "rejected": "no"},
    {"prompt": "Who is there?", "chosen": "The Same beginning, then a bow", "rejected": "The Same beginning, then no"},
]


@pytest.fixture
def three(make_prepared):
    return make_prepared(SHOWN, max_invalid=1.0)


def opened(path):
    return Prepared(path, read_manifest(path))


@pytest.mark.parametrize("row", ["train:1", "1", "pairs.jsonl:3", "raw/pairs.jsonl:3"])
def test_a_pair_is_found_by_its_position_or_its_origin(three, row):
    found = find(opened(three), row=row)
    assert [(pair.split, pair.index, pair.row.prompt) for pair in found.pairs] == [("train", 1, "Who is there?")]
    assert found.quarantined == []


def test_a_pair_is_found_by_a_prefix_of_its_id(three):
    id_ = find(opened(three), row="0").pairs[0].row.id
    assert find(opened(three), id_=id_[:8]).pairs[0].row.prompt == "How far is it?"


@pytest.mark.parametrize(
    ("text", "prompts"), [("same BEGINNING", ["Who is there?"]), ("IS", ["How far is it?", "Who is there?"])]
)
def test_texts_are_searched_in_any_case(three, text, prompts):
    assert [pair.row.prompt for pair in find(opened(three), text=text).pairs] == prompts


def test_a_row_in_quarantine_is_found_with_its_reason(three):
    for criterion in ({"row": "pairs.jsonl:2"}, {"text": "how OLD"}):
        found = find(opened(three), **criterion)
        assert found.pairs == []
        assert [(row.line, row.code) for row in found.quarantined] == [(2, "empty_response")]


def test_escaped_characters_of_a_raw_row_are_searched(make_prepared):
    folder = make_prepared(['{"prompt": "caf\\u00e9", "chosen": "", "rejected": "x"}'], max_invalid=1.0)
    assert find(opened(folder), text="CAFÉ").quarantined_found == 1


def test_conversations_are_searched_message_by_message(make_prepared):
    row = {
        "prompt": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "Needle"},
            {"role": "user", "content": "x"},
        ],
        "chosen": [{"role": "assistant", "content": "one"}],
        "rejected": [{"role": "assistant", "content": "two"}],
    }
    other = row | {"prompt": [{"role": "user", "content": "hay"}]}
    folder = make_prepared([other, row], form="conversational")
    assert [pair.index for pair in find(opened(folder), text="needle").pairs] == [1]


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        ({"row": "train:2"}, r"train has 2 pairs, from train:0 to train:1"),
        ({"row": "test:0"}, r"has no split test; it has train"),
        ({"row": "other.jsonl:1"}, r"no pair and no row in quarantine is at other\.jsonl:1"),
        ({"id_": "ffff"}, r"no pair and no row in quarantine has id ffff"),
        ({"id_": "no id"}, r"not a pair id"),
        ({"text": "nowhere"}, r'contains "nowhere"'),
        ({}, r"Say which pair"),
        ({"text": ""}, r"Say which pair"),
        ({"row": "1", "text": "x"}, r"Say which pair"),
    ],
)
def test_a_search_without_a_match_says_so(three, criterion, message):
    with pytest.raises(UsageError, match=message):
        find(opened(three), **criterion)


def test_a_folder_without_pairs_says_so(make_prepared):
    folder = make_prepared(SHOWN[1:2], max_invalid=1.0)
    with pytest.raises(UsageError, match="has no pairs, only rows in quarantine"):
        find(opened(folder), row="0")


def test_the_command_shows_a_pair_with_its_origin(three, dpo_data):
    code, out, _ = dpo_data("show", three, "1")
    lines = [line.strip() for line in out.splitlines()]
    assert code == 0
    assert lines[0] == "pair    train:1"
    assert lines[2].endswith("pairs.jsonl:3")
    assert any("then a bow" in line and "then no" in line for line in lines)


def test_the_command_says_why_a_row_is_in_quarantine(three, dpo_data):
    code, out, _ = dpo_data("show", three, "pairs.jsonl:2")
    assert code == 0
    assert "chosen is empty. [empty_response]" in out
    assert '"How old are you?"' in out


def test_several_matches_are_listed_with_their_ids(three, dpo_data):
    _, out, _ = dpo_data("show", three, "--find", "is")
    ids = [pair.row.id for pair in find(opened(three), text="is").pairs]
    assert len(ids) == 2
    assert all(id_ in out for id_ in ids)


def test_json_has_pairs_and_quarantine(three, dpo_data):
    _, out, _ = dpo_data("show", three, "--find", "how", "--json")
    content = json.loads(out)
    assert [(pair["split"], pair["index"], pair["chosen"]) for pair in content["pairs"]] == [("train", 0, "yes 0")]
    assert [row["code"] for row in content["quarantined"]] == ["empty_response"]
    assert (content["pairs_found"], content["quarantined_found"]) == (1, 1)


def test_a_missing_pair_is_a_usage_error_without_a_traceback(three, dpo_data):
    code, out, err = dpo_data("show", three, "7")
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")


def test_a_run_and_a_row_exclude_each_other(three, dpo_data):
    code, _, err = dpo_data("show", three, "1", "--run", "run")
    assert code == 2
    assert "--run: cannot be combined with a row" in err


def test_markup_in_texts_is_not_interpreted(make_prepared, dpo_data):
    folder = make_prepared([{"prompt": "[bold]hello[/bold]", "chosen": "[red]a[/red]", "rejected": "[link=x]b"}])
    _, out, _ = dpo_data("show", folder, "0")
    assert "[bold]hello[/bold]" in out
    assert "[red]a[/red]" in out


# Tokens.


@pytest.mark.parametrize("mode", ["keep_end", "keep_start"])
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize(("max_length", "max_prompt_length"), [(1024, None), (24, None), (24, 5), (8, None)])
def test_the_tokens_shown_are_those_of_the_cache(
    make_prepared, make_tokenizer, max_length, max_prompt_length, bos, mode
):
    rows = [
        {
            "prompt": "hello there, the other one: " * n,
            "chosen": "a bow and a tie " * n,
            "rejected": "no, it is not " * 3,
        }
        for n in (1, 3, 6)
    ]
    folder = make_prepared(rows)
    tokenizer = make_tokenizer(bos=bos)
    options = {"max_length": max_length, "max_prompt_length": max_prompt_length, "truncation_mode": mode}
    cache = tokenize(folder, tokenizer=tokenizer, **options)
    assert cache.manifest.splits["train"].dropped == {}
    for index, row in enumerate(cache.dataset()["train"]):
        tokens = show(folder, row=str(index), tokenizer=tokenizer, **options).tokens
        assert tokens.kept_ids() == (row["prompt_ids"], row["chosen_ids"], row["rejected_ids"])
        assert tokens.cache == cache.manifest.key


def test_the_tokens_add_up_to_the_text_and_mark_what_is_truncated(make_prepared, byte_tokenizer):
    folder = make_prepared([{"prompt": "abcdefgh", "chosen": "xy", "rejected": "z"}])
    tokens = show(folder, row="0", tokenizer=byte_tokenizer, max_length=8).tokens
    assert "".join(token.text for token in tokens.prompt) == "abcdefgh"
    assert "".join(token.text for token in tokens.prompt if not token.kept) == "abc"
    assert [(token.text, token.special) for token in tokens.chosen] == [("x", False), ("y", False), ("</s>", True)]


def test_json_has_every_token(make_prepared, byte_tokenizer, dpo_data, tmp_path):
    folder = make_prepared([{"prompt": "abcdefgh", "chosen": "xy", "rejected": "z"}])
    byte_tokenizer.save_pretrained(tmp_path / "bytes")
    code, out, _ = dpo_data("show", folder, "0", "--tokenizer", tmp_path / "bytes", "--max-length", "8", "--json")
    tokens = json.loads(out)["tokens"]
    assert code == 0
    assert [token["kept"] for token in tokens["prompt"]] == [False] * 3 + [True] * 5
    assert [token["text"] for token in tokens["rejected"]] == ["z", "</s>"]


def test_a_begin_token_that_survives_truncation_is_shown(make_prepared, bos_tokenizer):
    folder = make_prepared([{"prompt": "one two three four five six seven", "chosen": "a bow", "rejected": "no"}])
    tokens = show(folder, row="0", tokenizer=bos_tokenizer, max_length=12).tokens
    kept = [token for token in tokens.prompt if token.kept]
    assert (kept[0].text, kept[0].special) == ("<s>", True)
    assert [token.special for token in tokens.prompt if token.special] == [
        True,
        True,
    ]  # the first, truncated, and the new one


def test_a_pair_that_training_does_not_use_says_why(make_prepared, byte_tokenizer, dpo_data, tmp_path):
    folder = make_prepared([{"prompt": "pppp", "chosen": "samex", "rejected": "samey"}])
    byte_tokenizer.save_pretrained(tmp_path / "bytes")
    code, out, _ = dpo_data("show", folder, "0", "--tokenizer", tmp_path / "bytes", "--max-length", "5")
    assert code == 0
    assert "Training does not use this pair: equal_responses." in out
    assert "⟦ppp⟧p" in out.replace("│", "")


def test_only_the_texts_of_shown_pairs_are_read(prepared, run, monkeypatch):
    """Only the pairs that are shown are parsed."""
    built = []
    monkeypatch.setattr(pairs, "_pair_at", lambda *place: built.append(place) or original(*place))
    worst_pairs(prepared, run, count=1)
    assert len(built) == 1


original = pairs._pair_at
