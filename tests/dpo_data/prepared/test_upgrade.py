"""Prepared folders of version 1, written by commit b6bece4: they are read, and their token caches are refused."""

import shutil
from pathlib import Path

import pytest

from dpo_data import convert, open_prepared, open_tokens, tokenize, validate
from dpo_data.errors import PreparedError
from dpo_data.inspect.search import find
from dpo_data.prepared.reader import damaged_files
from dpo_data.prepared.upgrade import upgrade_v1
from dpo_data.tokens.cache import list_tokens, refuse_old_tokens

FOLDERS = Path(__file__).parents[2] / "fixtures" / "prepared-v1"
TEXT_TOKENS, CHAT_TOKENS = "tokens/0db3652f906a68f5", "tokens/7139202cc6ac20c4"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A copy of the text folder, with its token cache."""
    shutil.copytree(FOLDERS / "text", tmp_path / "text")
    return tmp_path / "text"


def test_a_text_folder_of_version_1_is_read_as_one_of_version_2(text):
    prepared = open_prepared(text)
    manifest = prepared.manifest
    assert (manifest.version, manifest.source.license, manifest.made_by) == (2, "unknown", "convert")
    assert {name: (split.pairs, split.shard_rows) for name, split in manifest.splits.items()} == {
        "train": (3, [3]),
        "test": (1, [1]),
    }
    assert list(manifest.columns.items())[:4] == [
        ("prompt", "string"),
        ("chosen", "string"),
        ("rejected", "string"),
        ("chosen_score", "float64"),
    ]
    rows = [row for split in ("train", "test") for batch in prepared.batches(split) for row in batch.to_pylist()]
    assert [(row["origin"], row["chosen"], row["chosen_score"], row["margin"]) for row in rows] == [
        ("raw/train.jsonl:1", " Two brackets.", 4.5, 3.5),
        ("raw/train.jsonl:2", " Two brackets.", 4.5, None),
        ("raw/train.jsonl:5", " One, two, and that is all there is to it.", 3.0, 1.0),
        ("raw/test.jsonl:1", " Yes.", 1.0, 0.5),
    ]
    quarantined = [(row.line, row.code) for row in prepared.quarantined()]
    assert quarantined == [(3, "identical_responses"), (4, "unreadable_row")]
    assert damaged_files(text, manifest.files) == {}


def test_a_conversational_folder_of_version_1_is_read_as_one_of_version_2():
    prepared = open_prepared(FOLDERS / "conversational")
    assert prepared.manifest.columns["prompt"] == "list<struct<role: string, content: string>>"
    [batch] = prepared.batches("train")
    assert batch.to_pylist()[0]["prompt"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name a bird."},
    ]
    assert [row.code for row in prepared.quarantined()] == ["empty_response"]


def test_a_folder_of_version_1_can_be_validated_searched_and_tokenized(text, byte_tokenizer):
    report = validate(text)
    assert (report.pairs, report.quarantined, report.damage, report.token_caches) == (4, 2, {}, [])
    assert find(open_prepared(text), row="test:0").pairs[0].row.origin == "raw/test.jsonl:1"
    cache = tokenize(text, tokenizer=byte_tokenizer)
    assert {name: counts.pairs for name, counts in cache.manifest.splits.items()} == {"train": 3, "test": 1}
    assert list_tokens(open_prepared(text)) == [cache]


def test_rows_that_are_converted_again_have_the_content_hash_of_version_1(tmp_path):
    raw = [FOLDERS / "raw" / f"{split}.jsonl" for split in ("train", "test")]
    manifest = convert("pairs", raw, output=tmp_path / "again", max_invalid=0.5, form="text")
    assert manifest.content_hash == open_prepared(FOLDERS / "text").manifest.content_hash


@pytest.mark.parametrize(
    ("pairs", "shards", "rows"),
    [
        (0, 0, []),
        (49_999, 1, [49_999]),
        (50_000, 1, [50_000]),
        (50_001, 2, [50_000, 1]),
        (150_000, 3, [50_000, 50_000, 50_000]),
    ],
)
def test_the_rows_of_each_shard_follow_from_the_number_of_pairs(tmp_path, pairs, shards, rows):
    names = [f"train/{number}.arrow" for number in range(shards)]
    manifest = {
        "form": "text",
        "source": {"name": "pairs", "licence": "mit"},
        "splits": {"train": {"pairs": pairs, "shards": names}},
        "files": {name: {"sha256": "00", "size_bytes": 1} for name in names},
    }
    upgraded = upgrade_v1(manifest, tmp_path)
    assert upgraded["splits"]["train"]["shard_rows"] == rows
    assert upgraded["source"] == {"name": "pairs", "license": "mit"}


def test_damage_in_a_folder_of_version_1_is_found(text):
    (text / "train" / "data-00000-of-00001.arrow").unlink()
    assert validate(text).damage == {"train/data-00000-of-00001.arrow": "is missing"}


def test_a_damaged_manifest_of_version_1_is_refused(text):
    manifest = text / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"source": {', '"sauce": {'))
    with pytest.raises(PreparedError, match="is damaged, or not a manifest of dpo-data prepared"):
        open_prepared(text)


@pytest.mark.parametrize(
    ("folder", "tokens", "options"),
    [
        ("text", TEXT_TOKENS, " --max-length 36 --max-prompt-length 12"),
        ("conversational", CHAT_TOKENS, " --chat-template FILE"),
    ],
)
def test_a_token_cache_of_version_1_is_refused_with_the_command_that_makes_it_again(folder, tokens, options):
    path = FOLDERS / folder
    message = (
        f"{path / tokens}: has format version 1; this program reads version 2.\n"
        f"  Tokenize again: dpo-data tokenize {path} --tokenizer bytes{options}"
    )
    for refuse in (lambda: open_tokens(path / tokens), lambda: refuse_old_tokens(open_prepared(path))):
        with pytest.raises(PreparedError) as refusal:
            refuse()
        assert str(refusal.value) == message


def test_a_token_cache_of_version_1_is_neither_listed_nor_reused_nor_changed(text, byte_tokenizer):
    before = {path: path.read_bytes() for path in (text / TEXT_TOKENS).rglob("*") if path.is_file()}
    assert list_tokens(open_prepared(text)) == []
    cache = tokenize(text, tokenizer=byte_tokenizer, max_length=36, max_prompt_length=12)
    assert (cache.hit, cache.path.name != Path(TEXT_TOKENS).name) == (False, True)
    assert {path: path.read_bytes() for path in before} == before


def test_only_caches_of_the_present_text_are_refused_as_old(text, make_prepared):
    other = make_prepared([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    shutil.copytree(text / "tokens", other / "tokens")
    assert refuse_old_tokens(open_prepared(other)) is None
