"""Which runs pack their sequences, and packed training compared with padded training."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from architectures import make
from naive import gradients_of_first_step
from peft import PromptTuningConfig, get_peft_model
from prefix_rows import ROWS, assert_same_gradients, dataset
from toys import make_pairs, make_tiny_model
from transformers import LlamaForCausalLM

import dpo_train.attention.register
from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPODataCollatorWithPadding, DPOTrainer
from dpo_train.attention.register import shared_prefix_attention
from dpo_train.attention.segments import Segments
from dpo_train.trainer.metrics import METRICS

Config = Callable[..., DPOConfig]


class OwnForward(DPOTrainer):
    def concatenated_forward(self, model: Any, batch: Any) -> Any:
        return super().concatenated_forward(model, batch)


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("as requested", {"attention_path": "padded"}),
        ("its layers keep a state", {"model": lambda: make("mamba")}),
        (
            "its router loss would count a shared prompt once",
            {"model": lambda: make("qwen3_moe", output_router_logits=True)},
        ),
        ("dropout is on", {"model": lambda: make("gpt2"), "disable_dropout": False}),
        ("a data_collator was passed", {"data_collator": DPODataCollatorWithPadding()}),
        ("preprocess_logits_for_metrics needs the logits", {"preprocess_logits_for_metrics": lambda logits, _: logits}),
        ("concatenated_forward is overridden", {"trainer": OwnForward}),
        ("a dataset is iterable", {"train_dataset": lambda: make_pairs(8).to_iterable_dataset()}),
        (
            "its adapter learns prompts",
            {
                "model": lambda: get_peft_model(
                    make_tiny_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
                )
            },
        ),
    ],
)
def test_runs_that_cannot_pack_are_padded_with_a_reason(reason: str, changes: dict[str, Any], config: Config) -> None:
    changes = dict(changes)
    path = changes.pop("attention_path", "auto")
    trainer_class = changes.pop("trainer", DPOTrainer)
    model = changes.pop("model", make_tiny_model)()
    rows = changes.pop("train_dataset", lambda: make_pairs(8))()
    trainer = trainer_class(model, args=config(attention_path=path, max_steps=1), train_dataset=rows, **changes)
    assert trainer.padding_reason == reason
    trainer.train()
    if path == "auto":
        with pytest.raises(UsageError, match=r"^attention_path=shared: prompts cannot be shared: "):
            trainer_class(
                changes.get("model", lambda: model)(),
                args=config(attention_path="shared"),
                train_dataset=rows,
                **changes,
            )


def test_a_model_that_fails_the_comparison_trains_padded(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An attention that ignores the prompt cannot be recognized by the configuration of the model."""

    def ignoring_prompts(*args: Any, segments: Segments, **options: Any) -> Any:
        table = segments.table.copy()
        table[:, 2] = 0
        return shared_prefix_attention(*args, segments=Segments(table), **options)

    monkeypatch.setattr(dpo_train.attention.register, "NAME", "ignoring_prompts")
    dpo_train.attention.register.AttentionInterface.register("ignoring_prompts", ignoring_prompts)
    curves = []
    for path in ("auto", "padded"):
        trainer = DPOTrainer(make_tiny_model(), args=config(attention_path=path), train_dataset=make_pairs(12))
        trainer.train()
        curves.append([record["loss"] for record in trainer.state.log_history if "loss" in record])
        if path == "auto":
            assert str(trainer.padding_reason).startswith("its log-probabilities differ by ")
    assert "Sequences are padded instead of packed: its log-probabilities differ by" in caplog.text
    assert curves[0] == curves[1]


def test_the_comparison_keeps_the_token_budget(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows with both sides padded to 110 tokens would be 440 tokens."""
    rows = [
        {"prompt_ids": [30 + row] * 70, "chosen_ids": [10, 11] * 15, "rejected_ids": [12, 13] * 20} for row in range(3)
    ]
    computed: list[int] = []
    real = LlamaForCausalLM.forward

    @functools.wraps(real)
    def recording(self: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        computed.append(input_ids.numel())
        return real(self, input_ids, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", recording)
    args = config(max_tokens_per_microbatch=280, attention_path="shared")
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=dataset(rows))
    computed.clear()
    trainer.resolve_packing()
    assert trainer.padding_reason is None
    # Two truncated pairs packed and padded, and one whole pair alone, in chunks and next to the longest, itself.
    assert computed == [2 * (35 + 29 + 34), 4 * 70, *[70 + 29 + 39] * 3]


@pytest.mark.parametrize("loss_type", ["sigmoid", "kto_pair"])
def test_evaluation_and_reference_keep_the_token_budget(
    loss_type: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    real = LlamaForCausalLM.forward

    @functools.wraps(real)
    def recording(self: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        computed.append(input_ids.numel())
        return real(self, input_ids, **options)

    losses = []
    for budget, size in ((60, 8), (60, 3), (10_000, 16)):
        args = config(max_tokens_per_microbatch=budget, loss_type=loss_type, per_device_eval_batch_size=size)
        trainer = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, eval_dataset=make_pairs(24))
        trainer.resolve_packing()
        with monkeypatch.context() as patch:
            patch.setattr(LlamaForCausalLM, "forward", recording)
            computed.clear()
            losses.append(trainer.evaluate()["eval_loss"])
        assert max(computed) <= budget
        assert len(computed) > 6 or budget > 60
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_packed_and_padded_training_have_the_same_curves(config: Config) -> None:
    pairs = make_pairs(24, seed=3)
    trainers = []
    for path in ("shared", "padded"):
        args = config(attention_path=path, max_steps=8, max_tokens_per_microbatch=40)
        trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs, eval_dataset=make_pairs(7, seed=4))
        trainer.train()
        trainer.evaluate()
        trainers.append(trainer)
    records, expected_records = (
        [record for record in trainer.state.log_history if {"loss", "eval_loss"} & set(record)] for trainer in trainers
    )
    assert records[-2]["loss"] < 0.6
    steps, _, table = trainers[1].pair_metrics.history()
    without_ties = 0
    for record, expected in zip(records, expected_records, strict=True):
        pairs_of_record = trainers[1].evaluated if "eval_loss" in expected else table[steps == expected["step"]]
        assert pairs_of_record is not None
        # The learning rate of step 1 is 0, so that the margins of step 2 are rounding errors with random signs.
        has_ties = bool((abs(pairs_of_record[:, METRICS.index("rewards/margins")]) < 1e-5).any())
        without_ties += not has_ties
        for name, value in expected.items():
            if "_per_second" in name or "time" in name or (has_ties and "accuracies" in name):
                continue
            assert record[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert without_ties >= len(records) - 2


@pytest.mark.parametrize("budget", [1, 17, 40, 10_000])
def test_gradients_of_a_step_do_not_depend_on_the_token_budget(budget: int, config: Config) -> None:
    rows = dataset(ROWS + make_pairs(9).select_columns(["prompt_ids", "chosen_ids", "rejected_ids"]).to_list())
    options = {"per_device_train_batch_size": 16, "max_steps": 1}
    packed = gradients_of_first_step(config(**options, max_tokens_per_microbatch=budget), rows)
    assert_same_gradients(packed, gradients_of_first_step(config(**options, attention_path="padded"), rows))


@pytest.mark.parametrize("accumulation", [1, 4])
def test_accumulation_has_no_effect_on_packed_training(accumulation: int, config: Config) -> None:
    args = config(per_device_train_batch_size=8 // accumulation, gradient_accumulation_steps=accumulation, max_steps=4)
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=make_pairs(19))
    trainer.train()
    whole = DPOTrainer(
        make_tiny_model(), args=config(per_device_train_batch_size=8, max_steps=4), train_dataset=make_pairs(19)
    )
    whole.train()
    for name, weight in trainer.model.state_dict().items():
        torch.testing.assert_close(weight, whole.model.state_dict()[name], rtol=0, atol=0)


def test_padded_batches_of_the_user_are_packed_like_those_of_the_run(config: Config) -> None:
    trainer = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=config(), train_dataset=dataset(ROWS))
    loss, metrics = trainer.get_batch_metrics(trainer.model, trainer.data_collator(ROWS), "eval")
    padded = DPOTrainer(
        make_tiny_model(), make_tiny_model(1), args=config(attention_path="padded"), train_dataset=dataset(ROWS)
    )
    expected, expected_metrics = padded.get_batch_metrics(padded.model, padded.data_collator(ROWS), "eval")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert metrics == pytest.approx(expected_metrics, rel=1e-5)


def test_the_model_keeps_its_own_attention_outside_of_training_steps(config: Config) -> None:
    model = make_tiny_model()
    before = model.config._attn_implementation
    trainer = DPOTrainer(model, args=config(), train_dataset=make_pairs(8), eval_dataset=make_pairs(4))
    trainer.train()
    trainer.evaluate()
    assert trainer.padding_reason is None
    assert model.config._attn_implementation == before
    assert model.generate(torch.tensor([[30, 31]]), max_new_tokens=3, do_sample=False).shape == (1, 5)
