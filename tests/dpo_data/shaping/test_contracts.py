"""What holds for every step: balance, lineage, same bytes, refused inputs."""

import json
from pathlib import Path

import pytest
from conversions import hashes, pair, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_data import (
    apply,
    convert,
    decontaminate,
    dedup,
    filter,
    mix,
    open_prepared,
    redact,
    sample_pairs,
    split,
    where,
)
from dpo_data.engine import ITEMS_WITHOUT_POOL
from dpo_data.errors import PreparedError, UsageError
from dpo_data.prepared.manifest import Manifest
from dpo_data.prepared.steps import read_left_out

TEXT = "Question one two three four five six seven eight nine ten"


def run(verb: str, folder: Path, output: Path, **options: object) -> Manifest:
    """Run a step with options that find something to do."""
    if verb == "mix":
        return mix([folder, f"again={folder}:0.5"], output=output, **options)
    if verb == "apply":
        (folder.parent / "decisions.jsonl").write_text(
            "\n".join(
                json.dumps({"id": row["id"], "action": action})
                for row, action in zip(rows_of(folder), ("drop", "flip", "keep"), strict=False)
            )
        )
        return apply(folder.parent / "decisions.jsonl", folder, output=output, **options)
    if verb == "decontaminate":
        (folder.parent / "eval.txt").write_text("Question 1 is a question for people who like questions.\n" + TEXT)
        return decontaminate(folder, output=output, against=[folder.parent / "eval.txt"], n=2, **options)
    function, arguments = {
        "dedup": (dedup, {"near": 0.8, "per_prompt": 2, "contradictions": "margin"}),
        "filter": (filter, {"where": 'lang == "en"', "drop_findings": ["duplicate_pair", "bad_characters"]}),
        "split": (split, {"test": 0.3, "by": "near-prompt"}),
        "sample": (sample_pairs, {"size": 0.4, "stratify": "lang"}),
        "redact": (redact, {}),
    }[verb]
    return function(folder, output=output, **arguments, **options)


VERBS = ("mix", "dedup", "filter", "split", "apply", "sample", "decontaminate", "redact")


@pytest.fixture
def folder(make_folder):
    rows = [pair(n % 25, chosen=f" yes {n % 3}", lang="en" if n % 2 else "de") for n in range(60)]
    rows[7]["chosen"] = " jo@example.org"
    return make_folder("in", train=rows, test=[pair(n, lang="en") for n in range(20, 30)], keep=["lang"])


@pytest.mark.parametrize("verb", VERBS)
def test_the_pairs_of_the_parents_are_those_of_the_folder_and_those_left_out(verb, folder, tmp_path):
    manifest = run(verb, folder, tmp_path / "out")
    step = manifest.made_by
    assert step.verb == verb
    listed = list(read_left_out(tmp_path / "out"))
    assert len(listed) == sum(step.left_out.values()) == manifest.left_out > 0 or verb in ("split", "redact")
    assert sum(parent.pairs for parent in step.parents) + step.repeated == manifest.pairs + len(listed)
    assert manifest.pairs == sum(len(rows_of(tmp_path / "out", name)) for name in ("train", "test"))
    assert open_prepared(tmp_path / "out").manifest == manifest
    text = (tmp_path / "out" / "left_out.jsonl").read_text() if listed else ""
    assert "yes" not in text
    assert "Question" not in text


@pytest.mark.parametrize("verb", VERBS)
def test_a_second_run_writes_the_same_bytes(verb, folder, tmp_path, small_ranges):
    run(verb, folder, tmp_path / "out")
    first = hashes(tmp_path / "out")
    run(verb, folder, tmp_path / "out", overwrite=True)
    assert hashes(tmp_path / "out") == first


@pytest.mark.parametrize("verb", ["dedup", "filter", "sample", "decontaminate", "redact"])
def test_any_number_of_workers_writes_the_same_bytes(verb, folder, tmp_path, small_ranges):
    assert open_prepared(folder).manifest.pairs > 3 * (ITEMS_WITHOUT_POOL + 1)  # fewer ranges are done in one process
    run(verb, folder, tmp_path / "one")
    run(verb, folder, tmp_path / "two", workers=2)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_the_bytes_depend_on_the_rows_and_not_on_the_ranges_that_were_read(folder, tmp_path, monkeypatch):
    whole = filter(folder, output=tmp_path / "whole", where="len(chosen) > 4")
    monkeypatch.setattr("dpo_data.shaping.rows.RANGE_ROWS", 7)
    parts = filter(folder, output=tmp_path / "parts", where="len(chosen) > 4")
    assert parts.content_hash == whole.content_hash


NUMBERS = st.lists(st.integers(0, 8), max_size=14)


@given(NUMBERS.filter(bool), NUMBERS, NUMBERS.filter(bool), st.data())
@settings(max_examples=6, deadline=None)
def test_the_balance_adds_up_for_any_folders_and_options(tmp_path_factory, train, test, other, data):
    root = tmp_path_factory.mktemp("balance")
    for name, splits in (("a", {"train": train, "test": test}), ("b", {"train": other})):
        for file, numbers in splits.items():
            (root / name).mkdir(exist_ok=True)
            lines = [json.dumps(pair(n, chosen=f" yes {n % 3}")) for n in numbers]
            (root / name / f"{file}.jsonl").write_text("\n".join(lines))
        inputs = [path for path in sorted((root / name).iterdir()) if path.stat().st_size]
        convert("pairs", inputs, output=root / f"p{name}", form="text")
    amounts = st.sampled_from(["", ":0.5", ":1.5", ":3", "@1", "@9"])
    on_leak = data.draw(st.sampled_from(["drop-train", "drop-test", "move"]))
    parts = [f"{root / name}{data.draw(amounts)}" for name in ("pa", "pb")]
    mixed = mix(parts, output=root / "m", on_leak=on_leak)
    steps = [mixed]
    if mixed.pairs:
        steps.append(
            dedup(
                root / "m",
                output=root / "d",
                per_prompt=data.draw(st.none() | st.integers(1, 3)),
                contradictions=data.draw(st.sampled_from(["keep", "drop", "margin"])),
                prefer=data.draw(st.sampled_from(["train", "test"])),
            )
        )
        steps.append(split(root / "m", output=root / "s", test=data.draw(st.integers(1, 9)) / 10, on_leak=on_leak))
        steps.append(sample_pairs(root / "m", output=root / "x", size=data.draw(st.integers(1, mixed.pairs))))
    for manifest in steps:
        read = sum(parent.pairs for parent in manifest.made_by.parents) + manifest.made_by.repeated
        assert read == manifest.pairs + sum(manifest.made_by.left_out.values())
    for name in ("m", "s"):
        if (root / name).exists():
            prompts = [{row["prompt_key"] for row in rows_of(root / name, split)} for split in ("train", "test")]
            assert not prompts[0] & prompts[1]


def test_a_manifest_with_another_sum_is_refused(folder, tmp_path):
    filter(folder, output=tmp_path / "out", where="len(chosen) > 4")
    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["made_by"]["parents"][0]["pairs"] += 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(PreparedError, match="does not add up: pairs"):
        open_prepared(tmp_path / "out")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("field", "value", "message"), [("status", "rejected", "was rejected"), ("version", 9, "has")])
def test_rejected_folders_and_those_of_another_version_are_refused(verb, folder, tmp_path, field, value, message):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[field] = value
    original = (folder / "manifest.json").read_text()
    run(verb, folder, tmp_path / "first")  # writes the files that the verb needs
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PreparedError, match=message):
        _only(verb, folder, tmp_path / "out")
    (folder / "manifest.json").write_text(original)
    (folder / "manifest.json").unlink()
    (folder / ".partial").mkdir()
    with pytest.raises(PreparedError, match="is unfinished"):
        _only(verb, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _only(verb, folder, output):
    """Run a step without reading the folder before."""
    if verb == "apply":
        apply(folder.parent / "decisions.jsonl", folder, output=output)
    else:
        run(verb, folder, output)


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_is_never_written_over_itself(verb, folder):
    with pytest.raises(UsageError, match="is a folder that the step reads"):
        run(verb, folder, folder, overwrite=True)


def test_a_damaged_shard_is_refused(folder, tmp_path):
    (shard,) = (folder / "train").glob("*.arrow")
    shard.write_bytes(shard.read_bytes()[:-1] + b"\1")
    with pytest.raises(PreparedError, match="has other bytes than when it was written"):
        dedup(folder, output=tmp_path / "out")


def test_a_run_that_fails_leaves_the_finished_folder_as_it_was(folder, tmp_path):
    filter(folder, output=tmp_path / "out", where="len(chosen) > 4")
    before = hashes(tmp_path / "out")
    with pytest.raises(UsageError):
        filter(folder, output=tmp_path / "out", where="lang > 4", overwrite=True)
    assert hashes(tmp_path / "out") == before


def test_no_absolute_path_is_in_the_manifest_or_the_card(folder, tmp_path):
    run("mix", folder, tmp_path / "out")
    for name in ("manifest.json", "README.md"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["parents"]["in"] == str(folder)


def test_where_follows_a_pair_through_all_steps_in_both_directions(folder, tmp_path):
    run("apply", folder, tmp_path / "applied")
    mix([tmp_path / "applied"], output=tmp_path / "mixed")
    dedup(tmp_path / "mixed", output=tmp_path / "unique")
    dropped, flipped = (row["id"] for row in rows_of(folder)[:2])
    uses = where(flipped, [tmp_path / "unique"])
    assert [(Path(use.path).name, use.kind, use.dataset) for use in uses if use.kind == "prepared"][-1] == (
        "in", "prepared", None,
    )  # fmt: skip
    assert [use.dataset for use in uses if Path(use.path).name == "unique"] == ["applied"]
    new = next(use for use in uses if use.changed)
    assert (Path(new.path).name, new.changed) == ("applied", f"flip of {flipped}")
    assert where(new.id, [tmp_path / "unique"]) == uses
    left = [use for use in where(dropped, [tmp_path / "unique"]) if use.kind == "left_out"]
    assert {(Path(use.path).name, use.dropped) for use in left} == {("applied", "dropped")}


def test_where_does_not_follow_a_parent_with_another_content(folder, tmp_path):
    filter(folder, output=tmp_path / "out", where="len(chosen) > 4")
    id_ = rows_of(tmp_path / "out")[0]["id"]
    assert {Path(use.path).name for use in where(id_, [tmp_path / "out"])} == {"in", "out"}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    manifest["made_by"]["parents"][0]["content_hash"] = "0" * 64
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    assert {Path(use.path).name for use in where(id_, [tmp_path / "out"])} == {"out"}


def test_steps_print_their_balance(folder, tmp_path, dpo_data):
    code, out, _ = dpo_data("sample", "10", folder, "-o", tmp_path / "out")
    assert code == 0
    assert out.splitlines()[0] == "70 pairs = 10 pairs + 60 left out"
    code, out, _ = dpo_data("mix", f"{tmp_path / 'out'}:2", "-o", tmp_path / "mixed", "--json")
    assert json.loads(out)["manifest"]["made_by"]["repeated"] == 10
    code, _, err = dpo_data("mix", tmp_path / "out", "-o", tmp_path / "mixed")
    assert (code, "--overwrite" in err) == (2, True)
    (tmp_path / "d.jsonl").write_text(json.dumps({"id": "0" * 32, "action": "drop"}))
    assert dpo_data("apply", tmp_path / "d.jsonl", folder, "-o", tmp_path / "applied").code == 2
    for words in (
        ("dedup", folder),
        ("filter", folder, "--where", "len(chosen) > 4"),
        ("split", folder, "--test", "20%"),
        ("redact", folder),
        ("decontaminate", folder, "--against", tmp_path / "d.jsonl", "--n", "5"),
    ):
        code, out, err = dpo_data(*words, "-o", tmp_path / str(words[0]))
        assert "pairs = " in out or "no new text" in err
