"""Builds: the recipes of the examples, what is done again, and errors with their lines."""

import json
import shutil
from pathlib import Path

import pytest
from conversions import hashes, rows_of

from dpo_data import build, mix, open_prepared, where
from dpo_data.errors import DataError, TooManyInvalid, UsageError

EXAMPLES = Path(__file__).parents[3] / "examples" / "recipes"


@pytest.fixture
def recipes(tmp_path):
    """A copy of the examples."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "recipes"))


def actions(result):
    return {folder.name: folder.action for folder in result.folders}


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_every_recipe_of_the_examples_builds_and_its_counts_add_up(recipes, name):
    result = build(recipes / name)
    assert set(actions(result).values()) == {"made"}
    for folder in result.folders:
        manifest = open_prepared(folder.path).manifest
        if folder.verb != "convert":
            step = manifest.made_by
            read = sum(parent.pairs for parent in step.parents) + step.repeated
            assert read == manifest.pairs + sum(step.left_out.values())
    again = build(recipes / name)
    assert set(actions(again).values()) == {"unchanged"}
    assert [folder.content_hash for folder in again.folders] == [folder.content_hash for folder in result.folders]


def test_the_mix_of_three_sources_finds_the_way_back_to_the_raw_rows(recipes):
    build(recipes / "mix.yaml")
    final = recipes / "build" / "mix" / "final"
    rows = [row for split in ("train", "test") for row in rows_of(final, split)]
    assert {row["dataset"] for row in rows} == {"dialogues", "labels", "scored"}
    row = next(row for row in rows if row["dataset"] == "labels")
    found = [Path(use.path).name for use in where(row["id"], [final]) if use.kind == "prepared"]
    assert list(dict.fromkeys(found)) == ["final", "clean", "unique", "mixed", "labels"]
    assert not any("piano" in str(row["chosen"]) for row in rows)


RECIPE = """\
sources:
  a: {source: pairs, input: a.jsonl, form: text}
  b: {source: pairs, input: b.jsonl, form: text}
steps:
  mixed: {mix: [a, "b:2"]}
  short:
    filter: mixed
    where: len(chosen) < 9
"""


@pytest.fixture
def recipe(tmp_path, write_rows):
    for name in "ab":
        rows = [{"prompt": f"{name} {n}?", "chosen": f" yes {n}", "rejected": " no"} for n in range(4)]
        write_rows(tmp_path / f"{name}.jsonl", rows)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def test_only_what_changed_is_done_again(recipe, write_rows):
    build(recipe)
    recipe.write_text(RECIPE.replace("< 9", "< 8"))
    assert [name for name, action in actions(build(recipe)).items() if action == "made"] == ["short"]
    write_rows(recipe.parent / "b.jsonl", [{"prompt": "b?", "chosen": " yes", "rejected": " no"}])
    assert [name for name, action in actions(build(recipe)).items() if action == "made"] == ["b", "mixed", "short"]


def test_a_file_that_was_only_touched_and_a_comment_change_nothing(recipe):
    build(recipe)
    text = (recipe.parent / "a.jsonl").read_text()
    (recipe.parent / "a.jsonl").write_text(text)
    recipe.write_text("# a comment\n" + RECIPE)
    assert set(actions(build(recipe)).values()) == {"unchanged"}


def test_a_parent_that_is_made_again_with_the_same_content_stops_there(recipe):
    build(recipe)
    shutil.rmtree(recipe.parent / "build" / "mixed")
    assert [name for name, action in actions(build(recipe)).items() if action == "made"] == ["mixed"]


def test_a_folder_that_someone_replaced_is_made_again(recipe):
    build(recipe)
    built = recipe.parent / "build"
    mix([built / "a"], output=built / "short", overwrite=True)
    assert actions(build(recipe))["short"] == "made"


def test_a_build_in_another_place_writes_the_same_bytes(recipe, tmp_path):
    build(recipe)
    other = tmp_path / "elsewhere" / tmp_path.name  # origins of rows begin with the name of the file's folder
    other.mkdir(parents=True)
    for name in ("a.jsonl", "b.jsonl", "recipe.yaml"):
        shutil.copy(recipe.parent / name, other / name)
    build(other / "recipe.yaml")
    for name in ("mixed", "short"):
        assert hashes(other / "build" / name) == hashes(recipe.parent / "build" / name)


def test_a_dry_run_prints_the_plan_and_writes_nothing(recipe, dpo_data):
    code, out, err = dpo_data("build", recipe, "--dry-run")
    assert (code, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["convert", "convert", "mix", "filter"]
    assert "to do (is new)" in out
    assert not (recipe.parent / "build").exists()


def test_the_result_is_json_where_wanted(recipe, dpo_data):
    code, out, err = dpo_data("build", recipe, "--json")
    assert code == 0
    assert [folder["pairs"] for folder in json.loads(out)["folders"]] == [4, 4, 12, 12]
    assert err.splitlines()[0] == "a (convert) made: 4 pairs"


def test_a_finished_folder_elsewhere_is_a_source(recipe):
    build(recipe)
    text = "output: other\nsources: {old: {prepared: build/mixed}}\nsteps: {few: {sample: old, size: 3}}\n"
    recipe.write_text(text)
    assert actions(build(recipe)) == {"old": "unchanged", "few": "made"}


def test_the_named_folders_are_tokenized(recipe, tokenizer_folder):
    tokens = f"tokenize:\n  short: {{tokenizer: {tokenizer_folder}, max_length: 64}}\n"
    recipe.write_text(RECIPE + tokens)
    cache = Path(build(recipe).tokens["short"])
    assert cache.parent == recipe.parent / "build" / "short" / "tokens"
    assert build(recipe).tokens == {"short": str(cache)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("where: len", "were: len", r":8: steps.short.were: there is no such key(.|\n)*Did you mean where"),
        ("len(chosen) < 9", "len(chose) < 9", r':8: steps.short.where: there is no column "chose"'),
        ("filter: mixed", "filter: mixt", r":7: steps.short.filter: mixt: no source or earlier step"),
        ("    filter: mixed\n", "", r":6: steps.short: name one step, as in dedup: NAME"),
        ("source: pairs, input: a", "source: pears, input: a", r":2: sources.a: (.|\n)*pears"),
        ("input: a.jsonl, form", "imput: a.jsonl, form", r":2: sources.a.imput: there is no such key"),
        ("  b: {", "  a: {", r":3: a: the key occurs twice"),
        ("a.jsonl", "missing.jsonl", r":2: sources.a: .*missing.jsonl"),
        ("steps:", "step:", r":4: step: there is no such key"),
        ("sources:", "sources: [", r":\d: is not YAML"),
        ("short:", "sh/ort:", r":6: steps.sh/ort: a name has letters"),
        ("    where: len(chosen) < 9\n", "  x:\n    split: a\n", r":\d: steps.x.test: is missing"),
    ],
)
def test_errors_name_the_file_the_line_and_the_key(recipe, old, new, message):
    recipe.write_text(RECIPE.replace(old, new))
    with pytest.raises(DataError, match=rf"recipe.yaml{message}"):
        build(recipe)


def test_a_rejected_conversion_stops_the_build(recipe, write_rows):
    write_rows(recipe.parent / "a.jsonl", [{"prompt": "a?", "chosen": "", "rejected": " no"}])
    for _ in range(2):
        with pytest.raises(TooManyInvalid, match=r"recipe.yaml:2: sources.a: .*was rejected"):
            build(recipe)


def test_a_recipe_that_another_run_builds_is_refused(recipe):
    from filelock import FileLock

    (recipe.parent / "build").mkdir()
    with FileLock(recipe.parent / "build" / ".lock"), pytest.raises(UsageError, match="another run is building it"):
        build(recipe)
