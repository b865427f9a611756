"""Behavior shared by all sources: refusals that name the right source, options, groups of rows, tools."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from golden import FIXTURES, GOLDEN_SOURCES, raw_rows, required_options

import dpo_data.readers.rows
from dpo_data import SOURCES, convert, open_prepared
from dpo_data.errors import InputError, UsageError
from dpo_data.inspect.validation import validate
from dpo_data.prepared.reader import read_manifest
from dpo_data.sources import list_sources, load_source, matching_sources


def written(path: Path, rows: list[Any]) -> Path:
    """Write rows to a file in a folder whose name is not that of a split."""
    path = path.parent / "data" / path.name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs_of(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    return [row for batch in open_prepared(folder).batches(split) for row in batch.to_pylist()]


def test_every_source_has_a_summary_with_its_rule_license_and_command() -> None:
    entries = {entry.name: entry for entry in list_sources()}
    assert list(entries) == list(SOURCES)
    assert all(load_source(name).__class__.__name__ == "Source" for name in SOURCES)
    for name, entry in entries.items():
        assert entry.direction
        assert entry.tested_on
        assert entry.license == entry.licence != ""
        assert entry.command.startswith(f"dpo-data convert {name}")
    assert entries["nectar"].command == "dpo-data convert nectar"
    assert entries["pku-saferlhf"].command == "dpo-data convert pku-saferlhf --axis better"
    assert entries["openai-preference"].command == (
        "dpo-data convert openai-preference --input FILE --form conversational"
    )


def test_a_misspelt_source_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="Did you mean hh-rlhf"):
        load_source("hhrlhf")


@pytest.mark.parametrize("source", [name for name in GOLDEN_SOURCES if name not in ("hh-rlhf", "pairs")])
def test_the_first_golden_row_matches_its_source_before_any_other(source: str) -> None:
    assert matching_sources(raw_rows(source)[0])[0] == source


@pytest.mark.parametrize("source", [name for name in GOLDEN_SOURCES if name not in ("hh-rlhf", "pairs")])
def test_a_file_of_another_source_is_refused_with_the_name_of_that_source(source: str, tmp_path: Path) -> None:
    raw = written(tmp_path / "raw.jsonl", raw_rows(source)[:1])
    wrong = "webgpt" if source != "webgpt" else "shp"
    with pytest.raises(InputError, match=f"holds rows of {source}, not of {wrong}"):
        convert(wrong, [raw], output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_first_row_that_matches_no_source_is_quarantined_like_any_other(tmp_path: Path) -> None:
    rows = [{"stray": 1}, *raw_rows("nectar")[:2]]
    manifest = convert("nectar", [written(tmp_path / "raw.jsonl", rows)], output=tmp_path / "out", max_invalid=1)
    assert (manifest.rows_read, manifest.pairs, manifest.quarantined_by_code) == (3, 2, {"missing_field": 1})


# Options.


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("hh-rlhf", {"pairing": "all"}, "pairing= does not apply to hh-rlhf, whose rows are already pairs"),
        ("hh-rlhf", {"max_pairs_per_prompt": 1}, "max_pairs_per_prompt= does not apply to hh-rlhf"),
        ("tulu3-preference", {"min_margin": 1}, "min_margin= does not apply to tulu3-preference, which has no scores"),
        ("nectar", {"min_margin": -1}, "min_margin=-1: must be at least 0"),
        ("nectar", {"max_pairs_per_prompt": 0}, "max_pairs_per_prompt=0: must be at least 1"),
        ("nectar", {"pairing": "some"}, "pairing=some: choose from best-worst"),
        ("nectar", {"axis": "safer"}, "axis=safer: nectar has only one judgment in each row"),
        ("pku-saferlhf", {}, "Choose one: axis=better|safer"),
        (
            "nectar",
            {"train_on_eval": True},
            "train_on_eval=True does not apply to nectar, which is not an evaluation set",
        ),
        ("nectar", {"revision": "main"}, "revision= only applies to Hub files"),
        ("mt-bench-judgments", {"split": "train"}, "is an evaluation set"),
        ("mt-bench-judgments", {"test_fraction": 0.1}, "is an evaluation set"),
    ],
)
def test_options_that_do_not_apply_to_a_source_are_refused(source, options, message, tmp_path) -> None:
    with pytest.raises(UsageError) as caught:
        convert(source, [FIXTURES / source / "raw.jsonl"], output=tmp_path / "out", **options)
    assert message in str(caught.value)


def test_the_axis_selects_the_judgment(tmp_path: Path) -> None:
    raw = written(tmp_path / "raw.jsonl", raw_rows("pku-saferlhf")[:1])
    for axis in ("better", "safer"):
        manifest = convert("pku-saferlhf", [raw], output=tmp_path / axis, axis=axis)
        assert manifest.options.axis == axis
    (better,), (safer,) = pairs_of(tmp_path / "better"), pairs_of(tmp_path / "safer")
    assert (better["chosen"], better["rejected"]) == (safer["rejected"], safer["chosen"])
    assert better["chosen"].startswith(" Best")


def test_an_evaluation_set_goes_to_test_unless_training_on_it_is_allowed(tmp_path: Path) -> None:
    raw = [written(tmp_path / "train.jsonl", raw_rows("mt-bench-judgments")[:2])]
    manifest = convert("mt-bench-judgments", raw, output=tmp_path / "a")
    assert list(manifest.splits) == ["test"]
    assert manifest.source.eval_only
    assert "evaluation set" in (tmp_path / "a" / "README.md").read_text()
    manifest = convert("mt-bench-judgments", raw, output=tmp_path / "b", train_on_eval=True)
    assert list(manifest.splits) == ["train"]


def test_revision_and_split_select_the_files_on_the_hub(tmp_path, monkeypatch) -> None:
    requested: list[str] = []

    def refuse(names, **options):
        requested.extend(names)
        raise InputError("offline")

    monkeypatch.setattr("dpo_data.conversion.convert.find_inputs", refuse)
    with pytest.raises(InputError):
        convert("helpsteer2", output=tmp_path / "out", revision="abc", split="test")
    assert requested == ["hf://datasets/nvidia/HelpSteer2@abc/validation.jsonl.gz"]


# Several pairs from one row, and one pair from several rows.


def test_one_row_may_give_several_pairs_with_the_same_origin(tmp_path: Path) -> None:
    raw = written(tmp_path / "raw.jsonl", raw_rows("nectar")[:1])
    manifest = convert("nectar", [raw], output=tmp_path / "out", pairing="all")
    rows = pairs_of(tmp_path / "out")
    assert (manifest.rows_read, manifest.rows_paired, manifest.pairs) == (1, 1, 3)
    assert {row["origin"].rpartition("/")[2] for row in rows} == {"raw.jsonl:1"}
    assert len({row["id"] for row in rows}) == 3
    assert [row["margin"] for row in rows] == [2.0, 6.0, 4.0]
    assert validate(tmp_path / "out").worst() is None


def test_a_bad_pair_does_not_affect_the_other_pairs_of_its_row(tmp_path: Path) -> None:
    row = {"prompt": "A question?", "responses": ["a  b", "a b", "c"], "scores": [3, 2, 1]}
    manifest = convert("ranked", [written(tmp_path / "r.jsonl", [row])], output=tmp_path / "out", pairing="all")
    assert (manifest.rows_paired, manifest.pairs, manifest.quarantined) == (1, 2, 0)
    assert manifest.pairs_left_out == {"identical_responses": 1}


def test_columns_that_no_pair_uses_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": "P", "chosen": "a", "rejected": "b"}, {"prompt": "Q", "chosen": "a", "rejected": "b", "id": 3}]
    manifest = convert("pairs", [written(tmp_path / "raw.jsonl", rows)], output=tmp_path / "out")
    assert manifest.unused_columns == {"id": 1}


def helpsteer2_rows(prompts: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Question {n}?", "response": f"answer {n} {side}", "helpfulness": side}
        for n in range(prompts)
        for side in (1, 3)
    ]


def oasst_rows(trees: int) -> list[dict[str, Any]]:
    rows = []
    for n in range(trees):
        common = {"message_tree_id": f"t{n}", "deleted": False, "review_result": True}
        rows.append(
            {"message_id": f"t{n}", "parent_id": None, "text": f"Q {n}?", "role": "prompter", "rank": None} | common
        )
        rows += [
            {"message_id": f"a{n}.{rank}", "parent_id": f"t{n}", "text": f"answer {rank}", "role": "assistant"}
            | {"rank": rank}
            | common
            for rank in (1, 0, 2)
        ]
    return rows


def kto_rows(prompts: int) -> list[dict[str, Any]]:
    good = [{"prompt": f"Q {n}?", "completion": "good", "label": True} for n in range(prompts)]
    return good + [{"prompt": f"Q {n}?", "completion": "bad", "label": False} for n in range(prompts)]


@pytest.mark.parametrize(
    ("source", "rows", "margin"),
    [("helpsteer2", helpsteer2_rows(300), 2), ("oasst", oasst_rows(300), 2), ("kto", kto_rows(300), 1)],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_group_of_rows_is_never_split_between_chunks(
    source: str, rows: list[dict[str, Any]], margin: int, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dpo_data.readers.rows, "CHUNK_BYTES", 1000)
    manifest = convert(source, [written(tmp_path / "raw.jsonl", rows)], output=tmp_path / "out", workers=workers)
    assert manifest.pairs == 300
    assert manifest.quarantined == 0
    assert {row["margin"] for row in pairs_of(tmp_path / "out")} == {margin}


def test_rows_of_different_files_are_never_combined(tmp_path: Path) -> None:
    rows = helpsteer2_rows(1)
    raw = [written(tmp_path / f"{n}.jsonl", [row]) for n, row in enumerate(rows)]
    manifest = convert("helpsteer2", raw, output=tmp_path / "out")
    assert (manifest.pairs, manifest.left_out_by_reason) == (0, {"single_response": 2})


@pytest.mark.parametrize("source", ["nectar", "helpsteer2", "kto", "openai-preference"])
def test_any_number_of_workers_gives_the_same_bytes(source: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(dpo_data.readers.rows, "CHUNK_BYTES", 2000)
    raw = written(tmp_path / "raw.jsonl", raw_rows(source) * 40)
    options: dict[str, Any] = {"pairing": "random", "seed": 7, "max_invalid": 1, "form": "conversational"}
    for workers in (1, 2):
        convert(source, [raw], output=tmp_path / str(workers), workers=workers, **options)
    one, two = (read_manifest(tmp_path / str(workers)) for workers in (1, 2))
    assert one == two
    assert one.pairs >= 3


def test_a_lone_surrogate_in_a_scored_response_is_quarantined(tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    raw.write_text('{"prompt": "Q", "responses": ["\\ud800", "b"], "scores": [2, 1]}\n')
    manifest = convert("ranked", [raw], output=tmp_path / "out", max_invalid=1)
    assert sum(manifest.quarantined_by_code.values()) == 1


# Tools.


def test_tools_reach_the_chat_template(tmp_path: Path, make_tokenizer: Callable[..., Any]) -> None:
    from dpo_data import tokenize

    template = (
        "{% for tool in tools or [] %}T:{{ tool.function.name }};{% endfor %}"
        "{% for m in messages %}{{ m.role }}:{% if m.tool_calls %}CALL {{ m.tool_calls[0].function.name }}"
        "{{ m.tool_calls[0].function.arguments | tojson }}"
        "{% else %}{{ m.content }}{% endif %};{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    raw = written(tmp_path / "raw.jsonl", raw_rows("openai-preference")[3:4])
    convert("openai-preference", [raw], output=tmp_path / "out", form="conversational")
    tokenizer = make_tokenizer(template=template)
    cache = tokenize(tmp_path / "out", tokenizer=tokenizer)
    (row,) = cache.dataset()["train"].to_list()
    assert "T:weather;" in tokenizer.decode(row["prompt_ids"])
    assert "CALL weather" in tokenizer.decode(row["chosen_ids"])


# Rows may contain anything.

JUNK: list[Any] = [None, 7, -1.5, True, "", "x", [], {}, [1], [{}], [[]], {"a": 1}, 10**400, float("nan"), ["x", "y"]]


def damaged(value: Any) -> Iterator[Any]:
    """Yield copies of a value with one part of it removed or replaced, at any depth."""
    yield from JUNK
    if isinstance(value, dict):
        for name in value:
            yield {other: value[other] for other in value if other != name}
            for inner in damaged(value[name]):
                yield value | {name: inner}
    elif isinstance(value, list):
        for index in range(min(len(value), 2)):
            for inner in damaged(value[index]):
                yield [*value[:index], inner, *value[index + 1 :]]


@pytest.mark.parametrize("source", GOLDEN_SOURCES)
def test_a_damaged_row_is_accounted_for_and_never_stops_a_conversion(source: str, tmp_path: Path) -> None:
    whole = (
        raw_rows(source)[0] if source not in ("hh-rlhf", "pairs") else {"prompt": "Q", "chosen": "a", "rejected": "b"}
    )
    rows = [whole, *(row for row in damaged(whole) if isinstance(row, dict))]
    assert len(rows) > 40
    raw = written(tmp_path / "raw.jsonl", rows)
    if source == "hh-rlhf":
        raw.write_text((FIXTURES / source / "raw.jsonl").read_text() + raw.read_text())
    for form in ("text", "conversational"):
        folder = tmp_path / form
        manifest = convert(source, [raw], output=folder, form=form, max_invalid=1, **required_options(source))
        assert manifest.rows_read == manifest.rows_paired + manifest.quarantined + manifest.left_out
        assert manifest.rows_read >= len(rows)
        report = validate(folder)
        assert report.damage == {}
