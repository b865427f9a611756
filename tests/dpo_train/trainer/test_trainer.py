"""The trainer compared with independent computations, and runs that must be equal."""

from collections.abc import Callable

import datasets
import numpy as np
import pytest
import torch
from naive import gradients_of_first_step, naive_logps, weights
from toys import make_pairs, make_tiny_model
from transformers import LlamaForCausalLM, TrainingArguments

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer
from dpo_train.trainer.metrics import METRICS

Config = Callable[..., DPOConfig]


def test_logps_equal_one_sequence_at_a_time_with_full_logits(
    tiny_model: LlamaForCausalLM, config: Config, pairs: datasets.Dataset
) -> None:
    trainer = DPOTrainer(tiny_model, args=config(), train_dataset=pairs)
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(len(pairs))])
    chosen, rejected, *_ = trainer.concatenated_forward(tiny_model, batch)
    np.testing.assert_allclose(chosen.detach(), naive_logps(tiny_model, pairs, "chosen"), rtol=1e-5)
    np.testing.assert_allclose(rejected.detach(), naive_logps(tiny_model, pairs, "rejected"), rtol=1e-5)


def test_before_the_first_step_margins_are_zero_and_the_loss_is_ln_2(
    tiny_model: LlamaForCausalLM, config: Config, pairs: datasets.Dataset
) -> None:
    metrics = DPOTrainer(tiny_model, args=config(), eval_dataset=pairs).evaluate()
    assert metrics["eval_rewards/margins"] == 0
    assert metrics["eval_rewards/accuracies"] == 0
    assert metrics["eval_loss"] == pytest.approx(np.log(2), abs=1e-6)


def test_metrics_equal_their_definitions(config: Config, pairs: datasets.Dataset) -> None:
    policy, reference = make_tiny_model(0), make_tiny_model(1)
    chosen = 0.2 * (naive_logps(policy, pairs, "chosen") - naive_logps(reference, pairs, "chosen"))
    rejected = 0.2 * (naive_logps(policy, pairs, "rejected") - naive_logps(reference, pairs, "rejected"))
    expected = {
        "eval_loss": np.log1p(np.exp(-(chosen - rejected))).mean(),
        "eval_rewards/chosen": chosen.mean(),
        "eval_rewards/rejected": rejected.mean(),
        "eval_rewards/accuracies": (chosen > rejected).mean(),
        "eval_rewards/margins": (chosen - rejected).mean(),
        "eval_logps/chosen": naive_logps(policy, pairs, "chosen").mean(),
        "eval_logps/rejected": naive_logps(policy, pairs, "rejected").mean(),
    }
    metrics = DPOTrainer(policy, reference, 0.2, config(), eval_dataset=pairs).evaluate()
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_logits_metrics_are_means_over_vocabulary_and_response_positions(
    tiny_model: LlamaForCausalLM, config: Config, pairs: datasets.Dataset
) -> None:
    def mean_logit(prompt: list[int], response: list[int]) -> float:
        with torch.no_grad():
            logits = tiny_model(input_ids=torch.tensor([prompt + response])).logits[0]
        return float(logits[len(prompt) - 1 : -1].mean())

    expected = np.mean([mean_logit(row["prompt_ids"], row["chosen_ids"]) for row in pairs])
    metrics = DPOTrainer(tiny_model, args=config(), eval_dataset=pairs).evaluate()
    assert metrics["eval_logits/chosen"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 64])
def test_evaluation_does_not_depend_on_the_batch_size(config: Config, pairs: datasets.Dataset, batch_size: int) -> None:
    args = config(per_device_eval_batch_size=batch_size)
    one_by_one = config(per_device_eval_batch_size=1)
    policy, reference = make_tiny_model(0), make_tiny_model(1)
    metrics = DPOTrainer(policy, reference, args=args, eval_dataset=pairs).evaluate()
    expected = DPOTrainer(policy, reference, args=one_by_one, eval_dataset=pairs).evaluate()
    names = [f"eval_{name}" for name in METRICS]
    # float32 sums differ in the last bits when the padding does
    assert {name: metrics[name] for name in names} == pytest.approx({name: expected[name] for name in names}, rel=1e-5)


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 8])
def test_gradients_of_a_step_do_not_depend_on_its_micro_batches(
    config: Config, pairs: datasets.Dataset, micro_batch: int
) -> None:
    """One step of 12 pairs as one micro-batch, and as 12 of 1, 6 of 2, 4 of 3, or 8 + 4."""
    options = {"max_steps": 1, "max_grad_norm": 0.0}
    whole = gradients_of_first_step(config(per_device_train_batch_size=12, **options), pairs)
    steps = -(-12 // micro_batch)
    split = config(per_device_train_batch_size=micro_batch, gradient_accumulation_steps=steps, **options)
    torch.testing.assert_close(gradients_of_first_step(split, pairs), whole, rtol=1e-4, atol=1e-6)


def test_logged_loss_and_metrics_do_not_depend_on_micro_batches(config: Config, pairs: datasets.Dataset) -> None:
    logs = []
    for micro_batch, accumulated in ((4, 1), (1, 4)):
        args = config(per_device_train_batch_size=micro_batch, gradient_accumulation_steps=accumulated, max_steps=6)
        trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
        trainer.train()
        logs.append([record for record in trainer.state.log_history if "loss" in record])
    assert len(logs[0]) == 6
    for whole, split in zip(*logs, strict=True):
        assert split == pytest.approx(whole, rel=1e-4, abs=1e-5)


def test_training_learns_the_preference_and_does_not_change_the_reference(
    tiny_model: LlamaForCausalLM, config: Config
) -> None:
    reference = make_tiny_model(1)
    before = weights(reference)
    trainer = DPOTrainer(
        tiny_model,
        reference,
        args=config(max_steps=30),
        train_dataset=make_pairs(40),
        eval_dataset=make_pairs(20, seed=9),
    )
    start = trainer.evaluate()
    trainer.train()
    end = trainer.evaluate()
    assert end["eval_loss"] < start["eval_loss"] - 0.05
    assert end["eval_rewards/margins"] > start["eval_rewards/margins"] + 0.1
    torch.testing.assert_close(weights(reference), before, rtol=0, atol=0)


def test_two_runs_with_the_same_seed_are_bitwise_equal(config: Config, pairs: datasets.Dataset) -> None:
    runs = []
    for _ in range(2):
        trainer = DPOTrainer(make_tiny_model(), args=config(), train_dataset=pairs)
        trainer.train()
        runs.append(weights(trainer.model))
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=0)


def test_plain_training_arguments_work_and_are_not_modified(
    tiny_model: LlamaForCausalLM, pairs: datasets.Dataset, tmp_path: object
) -> None:
    args = TrainingArguments(str(tmp_path), use_cpu=True, max_steps=1, save_strategy="no", disable_tqdm=True)
    before = args.to_dict()
    DPOTrainer(tiny_model, args=args, train_dataset=pairs).train()
    assert args.to_dict() == before
    assert args.remove_unused_columns


def test_dropout_is_off_by_default(config: Config, pairs: datasets.Dataset) -> None:
    model = make_tiny_model()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    trainer = DPOTrainer(model, args=config(max_steps=1), train_dataset=pairs)
    trainer.train()
    assert trainer.state.log_history[0]["rewards/margins"] == 0


def test_two_different_betas_are_refused(tiny_model: LlamaForCausalLM, config: Config) -> None:
    with pytest.raises(UsageError, match=r"beta is 0\.3 in DPOTrainer\(beta=\.\.\.\) and 0\.2 in its args"):
        DPOTrainer(tiny_model, None, 0.3, config(beta=0.2))


def test_the_configured_beta_is_used_if_the_constructor_has_the_default(
    tiny_model: LlamaForCausalLM, config: Config
) -> None:
    assert DPOTrainer(tiny_model, args=config(beta=0.2)).beta == 0.2


def test_tokens_of_another_model_are_refused_before_training(
    tiny_model: LlamaForCausalLM, config: Config, pairs: datasets.Dataset
) -> None:
    tiny_model.resize_token_embeddings(100)
    with pytest.raises(
        UsageError, match=r"toy\.jsonl:1: it has token id 256, the vocabulary of the model has ids 0 to 99"
    ):
        DPOTrainer(tiny_model, args=config(), train_dataset=pairs)
