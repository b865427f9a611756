"""Datasets that the trainer takes, and what can be done with the batches of its loaders."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from toys import make_pairs, make_text_pairs, make_tiny_model, make_tiny_tokenizer
from transformers import LlamaForCausalLM

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer

Config = Callable[..., DPOConfig]
TOKENS = ("prompt_ids", "chosen_ids", "rejected_ids")


@pytest.fixture
def texts() -> datasets.Dataset:
    return make_text_pairs(9)


@pytest.fixture
def trainer(config: Config, texts: datasets.Dataset) -> DPOTrainer:
    return DPOTrainer(
        make_tiny_model(), make_tiny_model(1), args=config(), train_dataset=texts, tokenizer=make_tiny_tokenizer()
    )


# ---- evaluate and predict --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", [False, True])
def test_evaluate_takes_text_tokens_and_streams(trainer: DPOTrainer, texts: datasets.Dataset, trained: bool) -> None:
    if trained:
        trainer.train()
    tokens = trainer.train_dataset.select(range(9)).select_columns(TOKENS)
    expected = trainer.evaluate(trainer.train_dataset)
    for data in (texts, tokens, texts.to_iterable_dataset(), tokens.to_iterable_dataset()):
        metrics = trainer.evaluate(data)
        for name in ("eval_loss", "eval_rewards/margins", "eval_logps/chosen"):
            assert metrics[name] == pytest.approx(expected[name], rel=1e-5), data
    several = trainer.evaluate(datasets.DatasetDict(a=texts, b=texts))
    assert several["eval_a_loss"] == several["eval_b_loss"] == pytest.approx(expected["eval_loss"], rel=1e-5)
    streams = trainer.evaluate({"a": texts.to_iterable_dataset()})
    assert streams["eval_a_loss"] == pytest.approx(expected["eval_loss"], rel=1e-5)


def test_predict_takes_what_evaluate_takes(trainer: DPOTrainer, texts: datasets.Dataset) -> None:
    expected = trainer.evaluate(texts)["eval_loss"]
    for data in (texts, trainer.train_dataset, texts.to_iterable_dataset()):
        output = trainer.predict(data)
        assert output.metrics["test_loss"] == pytest.approx(expected, rel=1e-5)
        assert output.predictions.shape[0] == 9


def test_evaluate_and_predict_read_prepared_folders(config: Config, prepared: Path) -> None:
    trainer = DPOTrainer(
        make_tiny_model(), make_tiny_model(1), args=config(), train_dataset=prepared, tokenizer=make_tiny_tokenizer()
    )
    assert trainer.evaluate(str(prepared))["eval_loss"] == trainer.predict(prepared).metrics["test_loss"]


def test_evaluation_sets_are_evaluated_by_name(config: Config, pairs: datasets.Dataset) -> None:
    other = make_pairs(3, seed=1)
    trainer = DPOTrainer(make_tiny_model(), args=config(), train_dataset=pairs, eval_dataset={"a": pairs, "b": other})
    assert trainer.evaluate("b")["eval_logps/chosen"] == trainer.evaluate(other)["eval_logps/chosen"]


def test_iterable_evaluation_sets_have_names(config: Config, texts: datasets.Dataset) -> None:
    sets = {"a": texts.to_iterable_dataset(), "b": texts.select(range(4))}
    trainer = DPOTrainer(
        make_tiny_model(), args=config(), train_dataset=texts, eval_dataset=sets, tokenizer=make_tiny_tokenizer()
    )
    trainer.train()
    assert trainer.evaluate()["eval_a_loss"] == pytest.approx(trainer.evaluate(texts)["eval_loss"], rel=1e-5)


def test_several_training_sets_are_refused(config: Config, pairs: datasets.Dataset) -> None:
    with pytest.raises(UsageError, match=r"several datasets \(train, test\); pass one"):
        DPOTrainer(make_tiny_model(), args=config(), train_dataset=datasets.DatasetDict(train=pairs, test=pairs))


def test_pairs_that_the_model_cannot_take_are_refused_in_evaluation_too(
    trainer: DPOTrainer, pairs: datasets.Dataset
) -> None:
    beyond = pairs.map(lambda row: {"chosen_ids": [9999]})
    for data in (beyond, beyond.to_iterable_dataset()):
        with pytest.raises(UsageError, match=r"toy.jsonl:1: it has token id 9999"):
            trainer.evaluate(data)


# ---- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["numpy", "torch", "pandas", "arrow"])
def test_the_format_of_a_dataset_does_not_matter(config: Config, texts: datasets.Dataset, format_: str) -> None:
    messages = texts.map(
        lambda row: {
            name: [{"role": role, "content": row[name]}]
            for name, role in zip(row, ("user", "assistant", "assistant"), strict=True)
        }
    )
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    for data in (texts, messages):
        plain, formatted = (
            DPOTrainer(make_tiny_model(), args=config(), train_dataset=each, tokenizer=tokenizer).train_dataset
            for each in (data, data.with_format(format_))
        )
        assert [formatted[row]["chosen_ids"] for row in range(9)] == [plain[row]["chosen_ids"] for row in range(9)]
    tokens = plain.select(range(9)).select_columns(TOKENS).with_format(format_)
    trainer = DPOTrainer(make_tiny_model(), args=config(), train_dataset=tokens)
    assert trainer.train_dataset[3]["chosen_ids"] == plain[3]["chosen_ids"]


def test_a_transform_of_token_ids_is_refused(config: Config, pairs: datasets.Dataset) -> None:
    with pytest.raises(UsageError, match="apply that with map"):
        DPOTrainer(make_tiny_model(), args=config(), train_dataset=pairs.with_transform(lambda rows: rows))


# ---- batches of the loaders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention_path", ["auto", "padded"])
def test_the_methods_of_a_batch_take_batches_of_the_loaders(
    config: Config, texts: datasets.Dataset, attention_path: str
) -> None:
    args = config(attention_path=attention_path, max_tokens_per_microbatch=60, train_sampling_strategy="sequential")
    trainer = DPOTrainer(
        make_tiny_model(),
        make_tiny_model(1),
        args=args,
        train_dataset=texts,
        eval_dataset=texts,
        tokenizer=make_tiny_tokenizer(),
    )
    padded = trainer.data_collator(trainer.train_dataset.pairs(range(4)))
    with torch.no_grad():
        expected = trainer.concatenated_forward(trainer.model, padded)
        for loader in (trainer.get_train_dataloader(), trainer.get_eval_dataloader()):
            batch = next(inputs for inputs in loader if trainer.tokens_and_pairs(inputs)[1])
            count = int(trainer.tokens_and_pairs(batch)[1])
            assert trainer.concatenated_inputs(batch)["concatenated_input_ids"].shape[0] == 2 * count
            logps = trainer.concatenated_forward(trainer.model, batch)
            torch.testing.assert_close(logps[0][:4], expected[0][:4])
            torch.testing.assert_close(logps[1][:4], expected[1][:4])
            policy, reference = trainer.get_batch_samples(trainer.model, batch)
            assert len(policy) == len(reference) == count
            loss, metrics = trainer.get_batch_metrics(trainer.model, batch)
            assert float(loss) == pytest.approx(float(trainer.compute_loss(trainer.model, batch)), rel=1e-5)
            assert metrics["logps/chosen"] == pytest.approx(float(logps[0].mean()), rel=1e-5)


def test_rows_of_the_trainer_are_those_of_a_dataset(trainer: DPOTrainer, texts: datasets.Dataset) -> None:
    """Callbacks such as TRL's LogCompletionsCallback select rows and read their prompts."""
    rows = trainer.train_dataset
    assert isinstance(rows[0]["prompt_ids"], list)
    assert rows[-1]["chosen_ids"] == rows[8]["chosen_ids"]
    assert len(list(rows)) == len(rows) == 9
    assert {*TOKENS, "prompt"} <= set(rows.column_names)
    assert list(rows["prompt"]) == list(texts["prompt"])
    assert list(rows.select(range(2))["prompt"]) == list(texts["prompt"])[:2]
    assert len(rows[0:2]["chosen_ids"]) == 2


# ---- iterable datasets -----------------------------------------------------------------------------------------------


def test_dropped_pairs_of_a_stream_are_counted(config: Config) -> None:
    rows = [{"prompt": f"q{n}", "chosen": "yes", "rejected": "yes" if n % 2 else "no"} for n in range(12)]
    trainer = DPOTrainer(
        make_tiny_model(),
        args=config(),
        train_dataset=datasets.Dataset.from_list(rows).to_iterable_dataset(),
        tokenizer=make_tiny_tokenizer(),
    )
    with pytest.warns(UserWarning, match=r"6 of the first 12 pairs are dropped: equal_responses 6"):
        trainer.train()


def test_a_stream_without_pairs_is_refused(config: Config) -> None:
    rows = [{"prompt": "q", "chosen": "yes", "rejected": "yes"}] * 4
    trainer = DPOTrainer(
        make_tiny_model(),
        args=config(),
        train_dataset=datasets.Dataset.from_list(rows).to_iterable_dataset(),
        tokenizer=make_tiny_tokenizer(),
    )
    with pytest.warns(UserWarning, match="4 of the first 4"), pytest.raises(UsageError, match="no pairs"):
        trainer.train()


def test_columns_of_a_stream_that_pairs_do_not_have_are_left_out(config: Config, pairs: datasets.Dataset) -> None:
    def losses(data: Any) -> list[float]:
        trainer = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=config(), train_dataset=data)
        trainer.train()
        return [record["loss"] for record in trainer.state.log_history if "loss" in record]

    more = pairs.add_column("row", ["x"] * 12).add_column("weight", [0.25] * 12)
    assert losses(more.to_iterable_dataset()) == losses(pairs.to_iterable_dataset())


def test_scores_of_a_stream_are_used(config: Config, pairs: datasets.Dataset) -> None:
    scored = pairs.add_column("chosen_score", [2] * 12).add_column("rejected_score", [0.5] * 12)
    trainer = DPOTrainer(make_tiny_model(), args=config(loss_type="odpo"), train_dataset=scored.to_iterable_dataset())
    # Before the first step the log-ratios are 0, and the margin of the scores is 1.5: log(1 + exp(1.5)).
    assert trainer.evaluate(scored.to_iterable_dataset())["eval_loss"] == pytest.approx(1.701413, abs=1e-5)
    with pytest.raises(UsageError, match="needs chosen_score"):
        trainer.evaluate(pairs.to_iterable_dataset())


def test_an_implicit_prompt_is_said(
    config: Config, tiny_model: LlamaForCausalLM, caplog: pytest.LogCaptureFixture
) -> None:
    data = datasets.Dataset.from_dict({"chosen": ["The sky is blue."], "rejected": ["The sky is black."]})
    with caplog.at_level(logging.WARNING):
        trainer = DPOTrainer(tiny_model, args=config(), train_dataset=data, tokenizer=make_tiny_tokenizer())
    assert "the prompt of a pair is what both of its responses begin with" in caplog.text
    decode = make_tiny_tokenizer().decode
    assert decode(trainer.train_dataset[0]["prompt_ids"]) == "The sky is"
    assert decode(trainer.train_dataset[0]["chosen_ids"]) == " blue.<eos>"


def test_the_tokenizer_of_the_model_is_used_for_text(
    config: Config, model_folder: Path, texts: datasets.Dataset
) -> None:
    by_name = DPOTrainer(str(model_folder), args=config(), train_dataset=texts)
    loaded = DPOTrainer(LlamaForCausalLM.from_pretrained(model_folder), args=config(), train_dataset=texts)
    assert by_name.tokenizer is not None
    assert by_name.train_dataset[2]["chosen_ids"] == loaded.train_dataset[2]["chosen_ids"]
    with pytest.raises(UsageError, match="text needs"):
        DPOTrainer(make_tiny_model(), args=config(), train_dataset=texts)
