"""Hash, name and loading of a tokenizer."""

import json
from contextlib import suppress

import pytest
from transformers import AutoTokenizer, ByT5Tokenizer

from dpo_data.errors import InputError, UsageError
from dpo_data.tokens.encoder import load_tokenizer, tokenizer_entry, tokenizer_hash

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TIGHT_CHATML = CHATML.replace("<|im_end|>\n", "<|im_end|>")


def test_a_tokenizer_that_was_saved_and_loaded_elsewhere_has_the_same_hash(make_tokenizer, tmp_path):
    for name, options in {
        "plain": {},
        "bos": {"bos": True},
        "chat": {"template": CHATML, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]},
    }.items():
        tokenizer = make_tokenizer(**options)
        tokenizer.save_pretrained(tmp_path / "one" / name)
        loaded = AutoTokenizer.from_pretrained(tmp_path / "one" / name)
        loaded.save_pretrained(tmp_path / "other" / name)
        again = AutoTokenizer.from_pretrained(tmp_path / "other" / name)
        assert tokenizer_hash(tokenizer) == tokenizer_hash(loaded) == tokenizer_hash(again), name


def test_truncation_and_padding_do_not_change_the_hash(make_tokenizer):
    tokenizer = make_tokenizer()
    before = tokenizer_hash(tokenizer)
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    assert tokenizer_hash(tokenizer) == before


def test_everything_that_decides_the_ids_changes_the_hash(make_tokenizer):
    ends = ["<|im_end|>"]
    variants = {
        "plain": make_tokenizer(),
        "other vocabulary": make_tokenizer(corpus=["quite another text"]),
        "bos": make_tokenizer(bos=True),
        "prefix space": make_tokenizer(prefix_space=True),
        "template": make_tokenizer(template=CHATML),
        "other template": make_tokenizer(template=TIGHT_CHATML),
        "other eos": make_tokenizer(eos_token="<|im_end|>"),
        "other pad": make_tokenizer(pad_token="</s>"),
        "no bos token": make_tokenizer(bos_token=None),
        "another special token, that may end a turn": make_tokenizer(additional_special_tokens=ends),
    }
    hashes = {name: tokenizer_hash(tokenizer) for name, tokenizer in variants.items()}
    same = {(a, b) for a in hashes for b in hashes if a < b and hashes[a] == hashes[b]}
    assert same == set()


def test_tokenizers_written_in_python_have_hashes_too():
    assert tokenizer_hash(ByT5Tokenizer()) == tokenizer_hash(ByT5Tokenizer())
    assert tokenizer_hash(ByT5Tokenizer()) != tokenizer_hash(ByT5Tokenizer(extra_ids=5))


def test_a_tokenizer_is_recorded_by_the_name_of_its_folder_without_the_path(make_tokenizer, tmp_path):
    make_tokenizer().save_pretrained(tmp_path / "models" / "toy")
    entry = tokenizer_entry(load_tokenizer(tmp_path / "models" / "toy"))
    assert entry.name == "toy"
    assert (entry.vocab_size, entry.bos_token_id, entry.eos_token_id, entry.pad_token_id) == (
        len(make_tokenizer()),
        0,
        1,
        2,
    )


def test_a_tokenizer_without_a_name_does_not_depend_on_the_working_directory(toy_tokenizer, tmp_path, monkeypatch):
    assert toy_tokenizer.name_or_path == ""
    entries = []
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        entries.append(tokenizer_entry(toy_tokenizer))
    assert entries[0] == entries[1]


def test_a_tokenizer_without_eos_is_refused(make_tokenizer, tmp_path):
    make_tokenizer(eos_token=None).save_pretrained(tmp_path / "endless")
    with pytest.raises(UsageError) as refusal:
        tokenizer_entry(load_tokenizer(tmp_path / "endless"))
    assert str(refusal.value) == (
        f"{tmp_path}/endless: the tokenizer has no end-of-sequence token, and a model could never learn to stop.\n"
        "  Set eos_token in its tokenizer_config.json."
    )


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(InputError, match=r"the tokenizer cannot be loaded: .*\n  Name a folder") as refusal:
        load_tokenizer(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path}: ")


def test_a_tokenizer_that_wants_to_run_code_is_not_loaded(make_tokenizer, tmp_path):
    folder = tmp_path / "code"
    make_tokenizer().save_pretrained(folder)
    ran = tmp_path / "ran"
    (folder / "tokenization_own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
    config = folder / "tokenizer_config.json"
    content = json.loads(config.read_text()) | {"auto_map": {"AutoTokenizer": [None, "tokenization_own.Own"]}}
    content["tokenizer_class"] = "Own"
    config.write_text(json.dumps(content))
    with suppress(InputError):  # transformers may also take its own class instead
        load_tokenizer(folder)
    assert not ran.exists()
