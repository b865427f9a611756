"""dpo-data convert, tokenize, validate and schema: what they print and write."""

import json
from pathlib import Path

import pytest
from data_cli import BAD, ROWS, Ran, lines

from dpo_data.inspect.validation import ValidationReport
from dpo_data.prepared.reader import open_prepared
from dpo_data.tokens.cache import open_tokens


def test_convert_prints_what_became_of_the_rows(dpo_data, work):
    ran = dpo_data("convert", "pairs", "--input", "bad.jsonl", "--max-invalid", "25%")
    assert ran.code == 0
    assert ran.err == ""
    assert lines(ran.out) == [
        "4 rows read = 3 pairs + 1 in quarantine",
        "Form: text (each pair is one text: 4 of the first 4 rows have white space or a marker between prompt and"
        " response). --form overrides this.",
        "split  pairs  quarantined",
        "train      3            1",
        "in quarantine because  rows",
        "empty_response            1",
        "Each with its raw row and a hint: prepared/quarantine",
        "Prepared folder: prepared",
    ]
    assert open_prepared("prepared").manifest.pairs == 3


def test_a_rejected_folder_is_written_and_fails(dpo_data, work):
    ran = dpo_data("convert", "pairs", "--input", "bad.jsonl", "--output", "out")
    assert ran.code == 1
    assert ran.err == ""
    assert ran.out.splitlines()[-1] == (
        "Rejected: 25.0% of the rows are in quarantine, over --max-invalid 5.0%. Everything is written for you to look"
        " at, but no trainer will take it."
    )
    assert (work / "out" / "quarantine" / "train.jsonl").exists()


def test_convert_with_a_tokenizer_makes_tokens_too(dpo_data, work, tokenizer_folder):
    ran = dpo_data(
        *("convert", "pairs", "--input", "pairs.jsonl", "--tokenizer", tokenizer_folder),
        *("--max-length", 12, "--max-prompt-length", 4, "--truncation-mode", "keep_start"),
    )
    assert (ran.code, ran.err) == (0, "")
    assert lines(ran.out)[0] == "3 rows read = 3 pairs + 0 in quarantine"
    assert "Tokens made: toy, max length 12, max prompt length 4, keep_start" in lines(ran.out)
    [cache] = (work / "prepared" / "tokens").iterdir()
    assert lines(ran.out)[-1] == f"Token cache: {cache.relative_to(work)}"
    options = open_tokens(cache).manifest.options
    assert (options.max_length, options.max_prompt_length, options.truncation_mode) == (12, 4, "keep_start")


def test_a_rejected_folder_gets_no_tokens(dpo_data, work, tokenizer_folder):
    ran = dpo_data("convert", "pairs", "--input", "bad.jsonl", "--tokenizer", tokenizer_folder, "--json")
    assert (ran.code, ran.err) == (1, "")
    assert json.loads(ran.out)["tokens"] is None
    assert not (work / "prepared" / "tokens").exists()


def test_tokenize_says_whether_the_cache_existed(dpo_data, work, tokenizer_folder):
    dpo_data("convert", "pairs", "--input", "pairs.jsonl")
    first = dpo_data("tokenize", "prepared", "--tokenizer", tokenizer_folder)
    second = dpo_data("tokenize", "prepared", "--tokenizer", tokenizer_folder)
    assert (first.code, first.err, second.code, second.err) == (0, "", 0, "")
    assert lines(first.out)[0] == "Tokens made: toy, max length 1024, keep_end"
    assert lines(second.out)[0] == "Tokens already there (hit): toy, max length 1024, keep_end"
    assert first.out.splitlines()[1:] == second.out.splitlines()[1:]


def test_max_length_0_disables_truncation(dpo_data, work, tokenizer_folder):
    dpo_data("convert", "pairs", "--input", "pairs.jsonl")
    ran = dpo_data("tokenize", "prepared", "--tokenizer", tokenizer_folder, "--max-length", 0)
    assert lines(ran.out)[0] == "Tokens made: toy, nothing is cut, keep_end"


def test_tokenize_prints_what_it_truncated_and_dropped(dpo_data, work, write_rows, tokenizer_folder):
    same = {"prompt": "zq", "chosen": "x" * 30 + "y", "rejected": "x" * 30 + "z"}
    long = {"prompt": "q" * 9, "chosen": "zzz", "rejected": "x"}
    write_rows(work / "long.jsonl", [same, long])
    dpo_data("convert", "pairs", "--input", "long.jsonl", "--form", "text")
    # Each letter is a token. Of the second pair's 9 + 4 the prompt loses 5.
    ran = dpo_data("tokenize", "prepared", "--tokenizer", tokenizer_folder, "--max-length", 8)
    cache = open_tokens(next((work / "prepared" / "tokens").iterdir()))
    assert lines(ran.out) == [
        "Tokens made: toy, max length 8, keep_end",
        "split  pairs  prompt tokens  response tokens  longest    prompts cut  responses cut  seams",
        "train      1              4                6        8  1 (−5 tokens)              0      0",
        "1 pairs of train dropped: equal_responses",
        f"Token cache: prepared/tokens/{cache.manifest.key}",
    ]


def test_validate_prints_a_readable_table(dpo_data, work):
    ran = dpo_data("validate", "bad.jsonl")
    assert (ran.code, ran.err) == (1, "")
    place = "work/bad.jsonl"
    assert lines(ran.out) == [
        "bad.jsonl: 4 rows = 3 pairs + 1 in quarantine (train 3)",
        "Not fit to train on yet. Do this first:",
        "  1. empty_response in 1 row (25.0%). An empty response has no tokens to learn from: remove the row, or fix it"
        " in the raw file.",
        "finding         severity  rows  where",
        f"empty_response  error        1  {place}:4: chosen is empty.",
        "                                An empty response has no tokens to learn from: remove the row, or fix it"
        " in the raw file.",
        "characters  min  p5  median  p95  p99  max",
        "prompt       11  11      12   13   13   13",
        "chosen        5   5       6   10   10   10",
        "rejected      3   3       3    8    8    8",
        "Chosen is longer than rejected in 66.7% of the pairs.",
        "Errors found.",
    ]


def test_validate_counts_the_pairs_longer_than_each_max_length(dpo_data, work, tokenizer_folder):
    ran = dpo_data(
        *("validate", "pairs.jsonl", "--tokenizer", tokenizer_folder),
        *("--max-length", 1000, "--max-length", 2, "--max-length", 1000),
    )
    assert (ran.code, ran.err) == (0, "")
    table = [line.split() for line in lines(ran.out)]
    start = next(index for index, words in enumerate(table) if words[:2] == ["max", "length"])
    assert table[start + 1 : start + 3] == [
        ["2", "3", "(100.0%)", "3", "(100.0%)"],
        ["1,000", "0", "(0.0%)", "0", "(0.0%)"],
    ]
    assert lines(ran.out)[-1] == "Nothing found."


@pytest.mark.parametrize(
    ("file", "fail_on", "code"),
    [("clean", "warning", 0), ("warned", "error", 0), ("warned", "warning", 1), ("wrong", "error", 1)],
)
def test_fail_on_is_the_severity_from_which_validate_fails(dpo_data, work, write_rows, file, fail_on, code):
    rows = {
        "clean": ROWS,
        "warned": [{"prompt": "p", "chosen": "a\ufffdb", "rejected": "c"}],
        "wrong": [*ROWS, BAD],
    }[file]
    write_rows(work / "rows.jsonl", rows)
    assert dpo_data("validate", "rows.jsonl", "--fail-on", fail_on).code == code


def test_markup_in_the_data_is_printed_as_it_is(dpo_data, work, write_rows):
    write_rows(work / "[bold]rows.jsonl", [*ROWS, BAD])
    ran = dpo_data("validate", "[bold]rows.jsonl")
    assert lines(ran.out)[0] == "[bold]rows.jsonl: 4 rows = 3 pairs + 1 in quarantine (train 3)"
    assert "work/[bold]rows.jsonl:4: chosen is empty." in ran.out


def test_schema_writes_every_schema_with_its_example(dpo_data, work):
    ran = dpo_data("schema")
    assert (ran.code, ran.err) == (0, "")
    written = sorted(path.relative_to(work).as_posix() for path in (work / "schemas").iterdir())
    assert sorted(lines(ran.out)) == written
    assert "schemas/manifest.schema.json" in written


def test_convert_prints_the_manifest_as_json(dpo_data, work, tokenizer_folder):
    ran = dpo_data("convert", "pairs", "--input", "pairs.jsonl", "--tokenizer", tokenizer_folder, "--json")
    assert (ran.code, ran.err) == (0, "")
    printed = json.loads(ran.out)
    assert printed["path"] == "prepared"
    assert printed["manifest"] == json.loads((work / "prepared" / "manifest.json").read_text())
    assert printed["tokens"]["manifest"] == json.loads(Path(printed["tokens"]["path"], "manifest.json").read_text())
    assert printed["tokens"]["hit"] is False


def test_tokenize_prints_its_manifest_as_json(dpo_data, work, tokenizer_folder):
    dpo_data("convert", "pairs", "--input", "pairs.jsonl")
    ran = dpo_data("tokenize", "prepared", "--tokenizer", tokenizer_folder, "--json")
    assert (ran.code, ran.err) == (0, "")
    printed = json.loads(ran.out)
    assert printed["manifest"] == open_tokens(printed["path"]).manifest.model_dump(mode="json")


def test_validate_prints_its_report_as_json(dpo_data, work):
    ran = dpo_data("validate", "bad.jsonl", "--json")
    assert (ran.code, ran.err) == (1, "")
    assert ValidationReport.model_validate_json(ran.out).findings["empty_response"].rows == 1


# Options of every command, and short ways.


def test_quiet_prints_no_summary(dpo_data, work, tokenizer_folder):
    assert dpo_data("convert", "pairs", "-i", "bad.jsonl", "-o", "out", "-q") == Ran(1, "", "")
    assert dpo_data("convert", "pairs", "-i", "pairs.jsonl", "-f", "text", "-q") == Ran(0, "", "")
    assert dpo_data("tokenize", "-t", tokenizer_folder, "--quiet") == Ran(0, "", "")
    assert dpo_data("validate", "-q") == Ran(0, "", "")
    assert dpo_data("report", "-q") == Ran(0, "", "")
    assert dpo_data("diff", "prepared", "prepared", "-q") == Ran(0, "", "")


def test_quiet_json_is_still_printed(dpo_data, work):
    assert json.loads(dpo_data("validate", "pairs.jsonl", "-q", "--json").out)["pairs"] == 3


def test_commands_read_the_folder_that_convert_writes_by_default(dpo_data, work, tokenizer_folder):
    dpo_data("convert", "pairs", "-i", "pairs.jsonl")
    for words in (["validate"], ["tokenize", "-t", tokenizer_folder], ["report"], ["show", "0"], ["show", "train:0"]):
        assert dpo_data(*words).code == 0
        assert dpo_data(words[0], "prepared", *words[1:]).code == 0
    assert dpo_data("show", "train:1").out == dpo_data("show", "prepared", "train:1").out


@pytest.mark.parametrize(("alias", "command"), [("detect", "sniff"), ("trace", "where")])
def test_commands_have_a_second_name(dpo_data, work, alias, command):
    dpo_data("convert", "pairs", "-i", "pairs.jsonl")
    words = ["pairs.jsonl"] if command == "sniff" else ["0", "prepared"]
    assert dpo_data(alias, *words) == dpo_data(command, *words)


def test_underscores_in_options_are_dashes(dpo_data, work):
    assert dpo_data("convert", "pairs", "--input", "bad.jsonl", "--max_invalid", "25%").code == 0
