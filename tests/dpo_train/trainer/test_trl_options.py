"""Options with TRL's names: what they change, and where they are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from architectures import make
from naive import naive_logps
from toys import make_pairs, make_text_pairs, make_tiny_model, make_tiny_tokenizer
from transformers import EvalPrediction, LlamaForCausalLM

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer
from dpo_train.batches.budget import TokenBudget
from dpo_train.batches.padded import DPODataCollatorWithPadding
from dpo_train.data.rows import PairRows
from dpo_train.trainer.metrics import COLUMNS

Config = Callable[..., DPOConfig]


def test_compute_metrics_sees_every_pair_and_its_metrics_can_choose_the_best_model(
    config: Config, pairs: datasets.Dataset, tmp_path: Path
) -> None:
    seen: list[EvalPrediction] = []

    def worst_margin(prediction: EvalPrediction) -> dict[str, float]:
        seen.append(prediction)
        return {"worst_margin": float(prediction.predictions[:, COLUMNS.index("rewards/margins")].min())}

    args = config(eval_strategy="steps", eval_steps=1, load_best_model_at_end=True, save_strategy="steps", save_steps=1,
                  metric_for_best_model="worst_margin", greater_is_better=True)  # fmt: skip
    trainer = DPOTrainer(
        make_tiny_model(), args=args, train_dataset=pairs, eval_dataset=pairs, compute_metrics=worst_margin
    )
    trainer.train()
    logged = [record["eval_worst_margin"] for record in trainer.state.log_history if "eval_loss" in record]
    assert [float(each.predictions[:, COLUMNS.index("rewards/margins")].min()) for each in seen] == logged
    assert trainer.state.best_metric == max(logged)


def test_generated_metrics_are_lengths_and_a_sample_of_the_kl_divergence(
    config: Config, pairs: datasets.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, reference = make_tiny_model(), make_tiny_model(1)
    answers: dict[int, list[list[int]]] = {id(policy): [[5, 6, 2], [7, 2]], id(reference): [[4, 2], [3, 3, 3]]}

    def write(model: Any, input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
        assert (options["top_k"], options["top_p"], options["temperature"]) == (0, 1.0, 1.0)
        rows = [[*prompt, *answer, *[0] * (4 - len(answer))]
                for prompt, answer in zip(input_ids.tolist(), answers[id(model)], strict=True)]  # fmt: skip
        return torch.tensor(rows)

    monkeypatch.setattr(type(policy), "generate", write)
    for model in (policy, reference):
        model.generation_config.eos_token_id = 2
    two = pairs.select([0, 1])
    args = config(generate_during_eval=True)
    trainer = DPOTrainer(policy, reference, args=args, eval_dataset=two, tokenizer=make_tiny_tokenizer())
    metrics = trainer.evaluate()
    # Where there is no EOS, the padding after an answer counts as written.
    written = datasets.Dataset.from_list(
        [{"prompt_ids": row["prompt_ids"], "chosen_ids": answer}
         for row, answer in zip(two, answers[id(policy)], strict=True)]
    )  # fmt: skip
    kl = naive_logps(policy, written, "chosen") - naive_logps(reference, written, "chosen")
    assert metrics["eval_generated/length"] == 2.5
    assert metrics["eval_generated/reference_length"] == (2 + 4) / 2
    assert metrics["eval_generated/kl"] == pytest.approx(kl.mean(), rel=1e-4)


def test_generating_during_evaluation_does_not_change_the_training(config: Config, pairs: datasets.Dataset) -> None:
    runs = []
    for generates in (False, True):
        options = {"eval_strategy": "steps", "eval_steps": 1, "precompute_reference": False}
        args = config(generate_during_eval=generates, **options)
        trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs, eval_dataset=pairs.select([0, 1]))
        trainer.train()
        runs.append([record["loss"] for record in trainer.state.log_history if "loss" in record])
        generated = [record for record in trainer.state.log_history if "eval_generated/kl" in record]
        assert len(generated) == (3 if generates else 0)
    assert runs[0] == runs[1]


def test_the_coefficient_of_the_router_loss_enables_weighs_or_disables_it(
    config: Config, pairs: datasets.Dataset
) -> None:
    losses = {}
    for coefficient in (None, 0.0, 0.5, 1.0):
        args = config(max_steps=1, router_aux_loss_coef=coefficient)
        trainer = DPOTrainer(make("qwen3_moe"), args=args, train_dataset=pairs)
        assert trainer.aux_loss_enabled == bool(coefficient)
        trainer.train()
        record = trainer.state.log_history[0]
        losses[coefficient] = record["loss"]
        assert ("aux_loss" in record) == bool(coefficient)
    assert losses[None] == losses[0.0]
    assert losses[1.0] - losses[0.0] == pytest.approx(record["aux_loss"], rel=1e-4)
    assert losses[0.5] - losses[0.0] == pytest.approx(record["aux_loss"] / 2, rel=1e-4)


def test_a_router_loss_is_refused_for_a_model_without_one(config: Config, pairs: datasets.Dataset) -> None:
    with pytest.raises(UsageError, match=r"router_aux_loss_coef=0\.1: the model outputs no router loss"):
        DPOTrainer(make_tiny_model(), args=config(router_aux_loss_coef=0.1), train_dataset=pairs)


def test_sequences_are_padded_to_a_multiple(config: Config, pairs: datasets.Dataset) -> None:
    row = {"prompt_ids": [1, 2, 3], "chosen_ids": [4, 5], "rejected_ids": [6, 7, 8, 9, 10]}
    batch = DPODataCollatorWithPadding(pad_to_multiple_of=4)([row])
    assert [batch[f"{side}_input_ids"].tolist() for side in ("chosen", "rejected")] == [
        [[1, 2, 3, 4, 5, 0, 0, 0]],
        [[1, 2, 3, 6, 7, 8, 9, 10]],
    ]
    trainer = DPOTrainer(make_tiny_model(), args=config(pad_to_multiple_of=16), train_dataset=pairs)
    assert trainer.resolve_packing().reason == "pad_to_multiple_of was set"
    batch = next(iter(trainer.get_train_dataloader()))
    assert all(batch[f"{side}_input_ids"].shape[1] % 16 == 0 for side in ("chosen", "rejected"))


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_pass_of_the_reference_has_at_most_so_many_pairs(ranks: int) -> None:
    rows = PairRows(make_pairs(24))
    split = TokenBudget(rows, 10_000, 3).split_into_micro_batches(np.arange(24), ranks)
    counted = [sum(row >= 0 for row in batch) for of_rank in split for batch in of_rank]
    assert sum(counted) == 24
    assert max(counted) <= 3


def test_the_batch_size_of_the_reference_does_not_change_its_values(config: Config, pairs: datasets.Dataset) -> None:
    found = []
    for size in (None, 1):
        args = config(precompute_ref_batch_size=size, precompute_reference=True)
        trainer = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, eval_dataset=pairs)
        found.append(trainer.evaluate()["eval_rewards/margins"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_models_loaded_by_name_take_the_arguments_of_from_pretrained(
    config: Config, pairs: datasets.Dataset, model_folder: Path
) -> None:
    args = config(model_init_kwargs={"dtype": torch.bfloat16, "attn_implementation": "eager"})
    trainer = DPOTrainer(str(model_folder), str(model_folder), args=args, train_dataset=pairs)
    assert trainer.model.dtype == torch.bfloat16
    assert trainer.model.config._attn_implementation == "eager"
    with pytest.raises(UsageError, match="the model is loaded already"):
        DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)


def test_code_of_a_model_runs_only_if_it_is_trusted(
    config: Config, pairs: datasets.Dataset, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "remote"
    folder.mkdir()
    for file in model_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    settings = json.loads((folder / "config.json").read_text())
    settings |= {
        "model_type": "remote",
        "auto_map": {"AutoConfig": "remote.Remote", "AutoModelForCausalLM": "remote.M"},
    }
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "remote.py").write_text("raise SystemExit('the code of the model ran')\n")
    with pytest.raises(UsageError, match="contains custom code"):
        DPOTrainer(str(folder), args=config(), train_dataset=pairs)


def test_a_trained_model_has_the_tags_of_its_training(config: Config, pairs: datasets.Dataset, tmp_path: Path) -> None:
    trainer = DPOTrainer(make_tiny_model(), args=config(max_steps=1), train_dataset=pairs)
    assert trainer.model.model_tags == ["dpo", "dpo-train"]
    assert trainer.ref_model is None
    reference = make_tiny_model(1)
    assert DPOTrainer(make_tiny_model(), reference, args=config(), train_dataset=pairs).ref_model is reference


@pytest.mark.parametrize("is_loaded", [False, True])
def test_the_tokenizer_is_that_of_the_model(config: Config, model_folder: Path, is_loaded: bool) -> None:
    text = datasets.Dataset.from_list(make_text_pairs(4))
    model = LlamaForCausalLM.from_pretrained(model_folder) if is_loaded else str(model_folder)
    trainer = DPOTrainer(model, args=config(), train_dataset=text)
    given = DPOTrainer(make_tiny_model(), args=config(), train_dataset=text, tokenizer=make_tiny_tokenizer())
    assert trainer.train_dataset[0]["prompt_ids"] == given.train_dataset[0]["prompt_ids"]
    with pytest.raises(UsageError, match=r"text needs DPOTrainer\(tokenizer=...\)"):
        DPOTrainer(make_tiny_model(), args=config(), train_dataset=text)
