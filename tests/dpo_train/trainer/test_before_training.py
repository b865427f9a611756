"""What is found before the first step: references, weights, optimizers and collators that cannot work."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import datasets
import pytest
import torch
from peft import LoraConfig
from toys import VOCAB_SIZE, make_pairs, make_tiny_model, make_tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

import dpo_train.logprobs.scoring
from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPODataCollatorWithPadding, DPOTrainer

Config = Callable[..., DPOConfig]


def small_vocabulary() -> LlamaForCausalLM:
    config = deepcopy(make_tiny_model().config)
    config.vocab_size, config.pad_token_id, config.eos_token_id = 100, None, 5
    return LlamaForCausalLM(config)


def few_positions() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB_SIZE, n_embd=8, n_layer=1, n_head=1, n_positions=4))


@pytest.mark.parametrize("on_demand", [False, True])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (small_vocabulary, "the vocabulary of the reference has ids 0 to 99"),
        (few_positions, "the reference has 4 positions"),
    ],
)
def test_a_reference_that_cannot_take_the_data_is_refused_with_the_row(
    config: Config, pairs: datasets.Dataset, tmp_path: Any, make: Callable[[], Any], message: str, on_demand: bool
) -> None:
    reference: Any = make()
    if on_demand:
        reference.save_pretrained(tmp_path)
        reference = str(tmp_path)
    with pytest.raises(UsageError, match=rf"toy.jsonl:\d+: .*{message}"):
        DPOTrainer(make_tiny_model(), reference, args=config(), train_dataset=pairs).train()


def test_a_new_evaluation_set_must_suit_the_reference_too(config: Config, pairs: datasets.Dataset) -> None:
    trainer = DPOTrainer(make_tiny_model(), few_positions(), args=config(), eval_dataset=None)
    with pytest.raises(UsageError, match="the reference has 4 positions"):
        trainer.evaluate(pairs)


@pytest.mark.parametrize(
    ("dtype", "rate", "warned"), [("bfloat16", 1e-6, True), ("bfloat16", 1e-2, False), ("float32", 1e-6, False)]
)
def test_steps_below_the_rounding_of_the_weights_are_warned_about(
    config: Config, monkeypatch: pytest.MonkeyPatch, dtype: str, rate: float, warned: bool
) -> None:
    said: list[str] = []
    monkeypatch.setattr("dpo_train.diagnosis.logger.warning", said.append)
    model = make_tiny_model().to(getattr(torch, dtype))
    trainer = DPOTrainer(
        model, args=config(learning_rate=rate, max_steps=1, warmup_steps=0), train_dataset=make_pairs(4)
    )
    assert any("cannot change by a step of the learning rate" in warning for warning in said) == warned
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trainer.train()
    changed = sum(int((weight != before[name]).sum()) for name, weight in model.named_parameters())
    assert (changed < 0.1 * sum(weight.numel() for weight in before.values())) == warned


def test_training_a_frozen_model_is_refused_and_evaluating_it_is_not(config: Config, pairs: datasets.Dataset) -> None:
    trainer = DPOTrainer(
        make_tiny_model().requires_grad_(False), args=config(), train_dataset=pairs, eval_dataset=pairs
    )
    assert trainer.evaluate()["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    with pytest.raises(UsageError, match="all parameters of the model are frozen"):
        trainer.train()


def test_an_optimizer_of_frozen_weights_is_refused(config: Config, pairs: datasets.Dataset) -> None:
    model = make_tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adapter = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    with pytest.raises(UsageError, match="holds no parameter that is trained"):
        DPOTrainer(model, args=config(), train_dataset=pairs, optimizers=(optimizer, None), peft_config=adapter)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: DPODataCollatorWithPadding(make_tiny_tokenizer()), "the first argument"),
        (lambda: DPODataCollatorWithPadding(max_length=64, truncation_mode="keep_end"), "max_length, truncation_mode"),
    ],
)
def test_the_collator_of_trl_0_7_is_answered_with_what_to_do(make: Callable[[], Any], named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        make()
    assert "Pass tokenizer and lengths to DPOTrainer" in str(caught.value)


def test_reference_values_of_a_stream_cannot_be_computed_before_training(
    config: Config, pairs: datasets.Dataset
) -> None:
    trainer = DPOTrainer(
        make_tiny_model(), make_tiny_model(1), args=config(precompute_reference=True), train_dataset=pairs
    )
    stream = pairs.to_iterable_dataset()
    for data in (stream, {"a": stream}):
        with pytest.raises(UsageError, match="precompute_reference=True: is not supported with IterableDataset"):
            trainer.evaluate(data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataloader_drop_last": True, "per_device_train_batch_size": 64}, "leaves out all of the 12 pairs"),
        ({"num_train_epochs": 0, "max_steps": -1}, "trains nothing"),
        ({"train_sampling_strategy": "group_by_length"}, "choose random or sequential"),
        ({"report_to": "wandbb"}, "there is no such tracker"),
    ],
)
def test_arguments_that_leave_nothing_to_do_are_refused(
    config: Config, pairs: datasets.Dataset, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        DPOTrainer(make_tiny_model(), args=config(**changes), train_dataset=pairs).train()


def test_the_probe_keeps_the_token_budget(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of these pairs have 296 tokens together."""
    lengths: list[int] = []
    compute = dpo_train.logprobs.scoring.packed_logps

    def spied(model: Any, network: Any, batch: Any, **options: Any) -> Any:
        lengths.append(batch.tokens)
        return compute(model, network, batch, **options)

    monkeypatch.setattr(dpo_train.logprobs.scoring, "packed_logps", spied)
    rows = [{"prompt_ids": [30 + row] * 90, "chosen_ids": [10] * 30, "rejected_ids": [20] * 30} for row in range(4)]
    args = config(max_steps=1, max_tokens_per_microbatch=200, per_device_train_batch_size=4)
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=datasets.Dataset.from_list(rows))
    trainer.train()
    assert max(lengths) <= 200
    assert trainer.padding_reason is None
