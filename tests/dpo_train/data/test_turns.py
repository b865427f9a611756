"""Truncation by turns for DPOTrainer and dpo-train, next to dpo-data."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pytest
from plain_turns import plain_cut
from toys import make_tiny_model, make_tiny_tokenizer
from train_cli import QUICK, dpo_train
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from dpo_data import convert, tokenize
from dpo_data.errors import UsageError
from dpo_data.prepared.reader import open_prepared
from dpo_data.tokens.cache import find_tokens, list_tokens
from dpo_train.config import DPOConfig
from dpo_train.data.text import RowReader
from dpo_train.trainer.trainer import DPOTrainer

TEMPLATE = (
    "{% if messages[0].content == 'refuse' %}{{ raise_exception('No.') }}{% endif %}"
    "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
)


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def row(number: int) -> dict[str, Any]:
    turns = [(message("user", f"Question {turn}?"), message("assistant", "Well.")) for turn in range(number % 5)]
    return {
        "prompt": [message("system", "Be kind."), *chain(*turns), message("user", f"And {number}?")],
        "chosen": [message("assistant", f"Gladly {number}.")],
        "rejected": [message("assistant", f"No {number}.")],
    }


ROWS = [row(number) for number in range(10)]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that prepares rows."""

    def make(rows: list[dict[str, Any]] = ROWS) -> Path:
        datasets.Dataset.from_list(rows).to_json(tmp_path / "rows.jsonl")
        convert("pairs", [tmp_path / "rows.jsonl"], output=tmp_path / "prepared", form="conversational")
        return tmp_path / "prepared"

    return make


def ids(rows: Any) -> list[tuple[list[int], ...]]:
    sides = ("prompt_ids", "chosen_ids", "rejected_ids")
    return [tuple(list(rows[row][side]) for side in sides) for row in range(len(rows))]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"truncation_unit": "turn", "max_length": 60},
        {"truncation_unit": "turn", "max_length": 60, "keep_system": False},
        {"truncation_unit": "turn", "max_length": 60, "max_prompt_length": 30},
        {"truncation_unit": "token", "max_length": 60},
        {"max_length": 60, "truncation_mode": "keep_start"},
    ],
)
def test_conversations_in_memory_get_the_ids_of_the_command_line(
    tokenizer: PreTrainedTokenizerFast, prepared: Callable[..., Path], options: dict[str, Any]
) -> None:
    reader = RowReader(tokenizer, **options)
    found = reader(datasets.Dataset.from_list(ROWS), name="the training set", split="train")
    assert ids(found) == ids(tokenize(prepared(), tokenizer=tokenizer, **options).dataset()["train"])


def test_the_trainer_cuts_tokens_unless_turns_are_given(
    tiny_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, config: Callable[..., DPOConfig]
) -> None:
    data = datasets.Dataset.from_list(ROWS)
    given = {"args": config(), "train_dataset": data, "tokenizer": tokenizer, "max_length": 60}
    by_turns = ids(DPOTrainer(tiny_model, truncation_unit="turn", **given).train_dataset)
    assert by_turns == [plain_cut(tokenizer, one, 60)[:3] for one in ROWS]
    by_tokens = DPOTrainer(tiny_model, **given).train_dataset
    assert ids(by_tokens) != by_turns
    assert tokenizer.decode(by_tokens[4]["prompt_ids"]).endswith("[u]Question 3?[a]Well.[u]And 4?[a]")
    assert len(by_tokens[4]["prompt_ids"]) == 60 - len("Gladly 4.") - 1


def test_a_trainer_uses_the_only_cache_of_a_folder_and_makes_one_by_tokens(
    tokenizer: PreTrainedTokenizerFast, prepared: Callable[..., Path]
) -> None:
    folder = prepared()
    reader = RowReader(tokenizer)
    reader(folder, name="the training set", split="train")
    assert find_tokens(folder, tokenizer=tokenizer, truncation_unit="token")
    assert len(list_tokens(open_prepared(folder))) == 1
    RowReader(tokenizer, max_length=60)(folder, name="the training set", split="train")
    assert find_tokens(folder, tokenizer=tokenizer, truncation_unit="token", max_length=60)
    assert find_tokens(folder, tokenizer=tokenizer, max_length=60) is None


def test_turns_of_text_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    data = datasets.Dataset.from_list([{"prompt": "a", "chosen": " b", "rejected": " c"}])
    with pytest.raises(UsageError, match="truncation_unit=turn: is for conversational data, and this is text"):
        RowReader(tokenizer, truncation_unit="turn")(data, name="the training set", split="train")


def test_truncation_is_refused_with_a_collator_of_ones_own(
    tiny_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, config: Callable[..., DPOConfig]
) -> None:
    data = datasets.Dataset.from_list(ROWS)
    given = {"args": config(), "train_dataset": data, "tokenizer": tokenizer, "data_collator": list}
    with pytest.raises(
        UsageError, match="max_length, truncation_unit: without effect with a data_collator of your own"
    ):
        DPOTrainer(tiny_model, max_length=60, truncation_unit="turn", **given)


# On the command line.


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    make_tiny_model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_run_says_at_its_start_what_was_cut(prepared: Callable[..., Path], model: Path, tmp_path: Path) -> None:
    words = ("--data", prepared(), "--model", model, "--output", tmp_path / "run", "--max-length", 60)
    # 60 tokens less a response of 10 leave 50: 23 and one of 2, 3 or 4 earlier turns of 22, for two rows each.
    planned = dpo_train(*words, "--dry-run")
    assert "truncated  6 prompts (12 turns dropped)\n" in planned.stdout, planned.stderr
    ran = dpo_train(*words, *QUICK, "--max-steps", 1)
    assert ran.exit_code == 0, ran.stderr
    assert "truncated  to 60 tokens: 6 prompts by 264 tokens (12 turns dropped)\n" in ran.stderr


def test_a_run_takes_the_cache_that_dpo_data_made_with_the_same_options(
    prepared: Callable[..., Path], model: Path
) -> None:
    folder = prepared()
    for given, words in (
        ({"max_length": 60}, ()),
        ({"max_length": 60, "keep_system": False}, ("--no-keep-system",)),
        ({"max_length": 60, "truncation_unit": "token"}, ("--truncation-unit", "token")),
    ):
        cache = tokenize(folder, tokenizer=model, **given)  # type: ignore[arg-type]
        planned = dpo_train("--data", folder, "--model", model, "--max-length", 60, *words, "--dry-run")
        assert f"tokens     {cache.path}\n" in planned.stdout, planned.stderr
    several = dpo_train("--data", folder, "--model", model, "--dry-run")
    assert "max_length 60, keep_end, by turns without the system message, truncate\n" in several.stderr


def test_max_invalid_limits_what_the_template_may_refuse(prepared: Callable[..., Path], model: Path) -> None:
    refused = row(1) | {"prompt": [message("user", "refuse")]}
    words = ("--data", prepared([*ROWS, refused]), "--model", model, "--dry-run")
    failed = dpo_train(*words)
    assert failed.exit_code == 1
    assert "refuses 1 of 11 pairs, more than --max-invalid 0.05 allows" in failed.stderr
    assert dpo_train(*words, "--max-invalid", "10%").exit_code == 0
