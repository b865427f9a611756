"""Tiny random models of many architectures train, with log-probabilities equal to a naive computation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from architectures import MODELS, make
from naive import naive_logps, weights
from peft import LoraConfig, PeftModel, get_peft_model
from toys import make_tiny_model

from dpo_train import DPOConfig, DPOTrainer

Config = Callable[..., DPOConfig]

#: The name of the option in transformers 5.23 and later, and the one before.
CHECKPOINTING = (
    "activation_checkpointing" if hasattr(DPOConfig, "activation_checkpointing") else "gradient_checkpointing"
)


@pytest.mark.parametrize("name", MODELS)
def test_log_probabilities_equal_one_sequence_at_a_time(name: str, config: Config, pairs: datasets.Dataset) -> None:
    model = make(name)
    trainer = DPOTrainer(model, make(name), args=config(), train_dataset=pairs)
    model.eval()
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(len(pairs))])
    with torch.no_grad():
        chosen, rejected, *_ = trainer.concatenated_forward(model, batch)
    np.testing.assert_allclose(chosen, naive_logps(model, pairs, "chosen"), rtol=2e-5)
    np.testing.assert_allclose(rejected, naive_logps(model, pairs, "rejected"), rtol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_three_steps_move_the_weights_and_lower_the_loss(name: str, config: Config, pairs: datasets.Dataset) -> None:
    trainer = DPOTrainer(make(name), args=config(per_device_train_batch_size=12), train_dataset=pairs)
    before = weights(trainer.model)
    trainer.train()
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    assert losses[0] == pytest.approx(np.log(2), abs=1e-4)
    assert losses[2] < losses[0]
    assert any(not torch.equal(tensor, before[key]) for key, tensor in trainer.model.state_dict().items())


def test_the_router_loss_is_added_if_the_model_outputs_it(config: Config, pairs: datasets.Dataset) -> None:
    losses = []
    for enabled in (False, True):
        model = make("qwen3_moe", output_router_logits=enabled, router_aux_loss_coef=0.5)
        trainer = DPOTrainer(model, args=config(max_steps=1), train_dataset=pairs)
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    # With two of four experts per token, balanced routing has a router loss of about 2.
    assert 0.5 < losses[1] - losses[0] < 2


def test_gradient_checkpointing_does_not_change_the_loss(config: Config, pairs: datasets.Dataset) -> None:
    logs = []
    for checkpointing in (False, True):
        args = config(**{CHECKPOINTING: checkpointing})
        trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
        trainer.train()
        logs.append([record["loss"] for record in trainer.state.log_history if "loss" in record])
    assert logs[0] == pytest.approx(logs[1], rel=1e-6)


@pytest.mark.parametrize(
    ("path", "name"), [("shared", "llama"), ("padded", "llama"), ("shared", "qwen3"), ("shared", "llama_tied")]
)
def test_bfloat16_autocast_starts_with_margin_0_and_stays_near_float32(
    path: str, name: str, config: Config, pairs: datasets.Dataset
) -> None:
    """In qwen3, float32 weights normalize queries and keys, but not values."""
    logs = []
    for options in ({}, {"bf16": True}):
        trainer = DPOTrainer(make(name), args=config(attention_path=path, **options), train_dataset=pairs)
        trainer.train()
        logs.append([record for record in trainer.state.log_history if "loss" in record])
    assert logs[1][0]["rewards/margins"] == 0
    assert logs[1][0]["logps/chosen"] != logs[0][0]["logps/chosen"]
    for rounded, whole in zip(*reversed(logs), strict=True):
        assert rounded["loss"] == pytest.approx(whole["loss"], abs=0.02)


# ---- adapters --------------------------------------------------------------------------------------------------------


def lora(**options: Any) -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **options)


def test_only_the_adapter_is_trained_and_the_model_under_it_is_the_reference(
    config: Config, pairs: datasets.Dataset
) -> None:
    trainer = DPOTrainer(make_tiny_model(), args=config(learning_rate=1e-2), train_dataset=pairs, peft_config=lora())
    before = weights(trainer.model)
    trainer.train()
    moved = {name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    assert trainer.state.log_history[0]["rewards/margins"] == 0
    assert trainer.reference.description == "the model under the adapter, each response once"


def test_only_the_adapter_is_saved_and_can_be_loaded(config: Config, pairs: datasets.Dataset, tmp_path: Path) -> None:
    trainer = DPOTrainer(make_tiny_model(), args=config(), train_dataset=pairs, peft_config=lora())
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "saved" / "model.safetensors").exists()
    loaded = PeftModel.from_pretrained(make_tiny_model(), tmp_path / "saved")
    ids = torch.arange(10)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(ids).logits, trainer.model.eval()(ids).logits)


def trained_adapter() -> Any:
    """Return a model with an adapter that has been trained already."""
    model = get_peft_model(make_tiny_model(), lora())
    torch.manual_seed(5)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.normal_(std=0.3)
    return model


def test_an_adapter_that_was_trained_before_is_the_reference_as_it_was_loaded(
    config: Config, pairs: datasets.Dataset
) -> None:
    trainer = DPOTrainer(trained_adapter(), args=config(), train_dataset=pairs)
    before = DPOTrainer(make_tiny_model(), args=config(), eval_dataset=pairs).evaluate()["eval_logps/chosen"]
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert first["logps/chosen"] != pytest.approx(before, rel=1e-3)
    assert trainer.state.log_history[2]["rewards/margins"] != 0
    assert trainer.reference.description == "the adapter as it was loaded, each response once"


def test_a_trained_adapter_is_merged_into_the_reference_of_a_new_one(config: Config, pairs: datasets.Dataset) -> None:
    tuned = trained_adapter()
    expected = naive_logps(tuned.eval(), pairs, "chosen").mean()
    trainer = DPOTrainer(tuned, args=config(), eval_dataset=pairs, peft_config=lora())
    metrics = trainer.evaluate()
    assert metrics["eval_logps/chosen"] == pytest.approx(expected, rel=1e-5)
    assert metrics["eval_rewards/margins"] == 0
