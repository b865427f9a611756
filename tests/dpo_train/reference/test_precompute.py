"""Reference log-probabilities are computed once, stored, and reused only for the same reference."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from naive import naive_logps
from peft import LoraConfig, get_peft_model
from toys import make_pairs, make_tiny_model

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer
from dpo_train.batches.batch import PackedBatch
from dpo_train.data.rows import PairRows
from dpo_train.reference.live import ModelOnDemand
from dpo_train.reference.precompute import Precomputed
from dpo_train.reference.store import ReferenceStore, checksum
from dpo_train.trainer.metrics import COLUMNS

Config = Callable[..., DPOConfig]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of responses in each call that computed reference log-probabilities."""
    counts: list[int] = []
    compute = Precomputed.compute

    def counting(self: Precomputed, batch: PackedBatch) -> torch.Tensor:
        counts.append(len(batch.lengths))
        return compute(self, batch)

    monkeypatch.setattr(Precomputed, "compute", counting)
    return counts


def losses(trainer: DPOTrainer) -> list[float]:
    trainer.train()
    return [record["loss"] for record in trainer.state.log_history if "loss" in record]


def make_stale(folder: Path) -> None:
    """Change all stored values of a folder of references."""
    files = list(folder.glob("*/*.npy"))
    assert files
    for file in files:
        entries = np.load(file)
        entries["logp"] -= 1
        np.save(file, entries)
        file.rename(file.with_stem(checksum(file.read_bytes())))  # complete, as another program would write it


def test_each_response_is_computed_once_over_epochs_evaluations_and_swapped_pairs(
    config: Config, pairs: datasets.Dataset, computed: list[int]
) -> None:
    swapped = pairs.rename_columns({"chosen_ids": "rejected_ids", "rejected_ids": "chosen_ids"}).select_columns(
        pairs.column_names
    )
    everything = datasets.concatenate_datasets([pairs, swapped])
    args = config(max_steps=-1, num_train_epochs=3, eval_strategy="steps", eval_steps=2)
    trainer = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, train_dataset=everything, eval_dataset=pairs)
    trainer.train()
    trainer.evaluate()
    assert sum(computed) == 2 * len(pairs)


@pytest.mark.parametrize(("precompute", "pairs_computed"), [(None, 8), (True, 40)])
def test_only_rows_of_the_run_are_computed_unless_all_are_requested(
    precompute: bool | None, pairs_computed: int, config: Config, computed: list[int]
) -> None:
    args = config(max_steps=2, precompute_reference=precompute)
    DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, train_dataset=make_pairs(40)).train()
    assert sum(computed) == 2 * pairs_computed


def test_the_first_step_of_the_policy_provides_its_own_reference_and_is_stored(
    config: Config, pairs: datasets.Dataset, computed: list[int], tmp_path: Path
) -> None:
    curves = []
    for precompute, expected in ((None, 2 * (len(pairs) - 4)), (True, 2 * len(pairs))):
        computed.clear()
        cache = tmp_path / str(precompute)
        args = config(max_steps=9, precompute_reference=precompute, reference_cache=str(cache))
        curves.append(losses(DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)))
        assert sum(computed) == expected
        assert len(ReferenceStore(next(cache.iterdir()))) == 2 * len(pairs)
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)
    assert curves[0][-1] < 0.69


def test_a_resumed_run_computes_its_whole_reference(
    config: Config, pairs: datasets.Dataset, computed: list[int], tmp_path: Path
) -> None:
    """The policy of its first step has been trained already."""
    args = config(max_steps=6, save_steps=2, save_strategy="steps", output_dir=str(tmp_path))
    straight = losses(DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs))
    computed.clear()
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert sum(computed) == 2 * len(pairs)
    resumed = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    assert resumed == pytest.approx(straight, rel=1e-6)


def test_a_trained_policy_is_not_the_reference_of_new_training_rows(config: Config, pairs: datasets.Dataset) -> None:
    trainer = DPOTrainer(make_tiny_model(), args=config(), train_dataset=pairs)
    trainer.train()
    trainer.train_dataset = PairRows(make_pairs(5, seed=9))
    with pytest.raises(UsageError, match="no copy of the initial policy was kept"):
        trainer.train()


def test_a_precomputed_reference_equals_a_frozen_copy(config: Config, pairs: datasets.Dataset) -> None:
    curves = []
    for precompute in (None, False):
        args = config(max_steps=6, precompute_reference=precompute)
        trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
        assert isinstance(trainer.reference, Precomputed) is (precompute is None)
        curves.append(losses(trainer))
    assert curves[0][0] == pytest.approx(np.log(2), abs=1e-7)
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_a_second_run_reads_the_stored_values_and_is_equal(
    config: Config, pairs: datasets.Dataset, computed: list[int], tmp_path: Path
) -> None:
    args = config(reference_cache=str(tmp_path / "reference"))
    first = losses(DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, train_dataset=pairs))
    assert sum(computed) == 24
    computed.clear()
    second = losses(DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, train_dataset=pairs))
    assert sum(computed) == 4  # the spot check of two pairs
    assert first == second
    (folder,) = (tmp_path / "reference").iterdir()
    assert json.loads((folder / "reference.json").read_text())["dtype"] == "torch.float32"


def test_another_reference_has_its_own_folder(config: Config, pairs: datasets.Dataset, tmp_path: Path) -> None:
    args = config(reference_cache=str(tmp_path / "reference"))
    first, changed = make_tiny_model(1), make_tiny_model(1)
    with torch.no_grad():
        changed.model.layers[1].mlp.down_proj.weight.mul_(1.001)
    for reference in (first, changed, first):
        DPOTrainer(make_tiny_model(), reference, args=args, train_dataset=pairs).train()
    assert len(list((tmp_path / "reference").iterdir())) == 2


@pytest.mark.parametrize("precompute", [True, None], ids=["by a spot check", "by the first step"])
def test_a_stored_value_that_differs_from_the_reference_is_refused(
    precompute: bool | None, config: Config, pairs: datasets.Dataset, computed: list[int], tmp_path: Path
) -> None:
    args = config(reference_cache=str(tmp_path), precompute_reference=precompute)
    DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs).train()
    computed.clear()
    make_stale(tmp_path)
    with pytest.raises(
        UsageError, match=r"the stored log-probabilities differ from those of the reference .*\n  Delete the folder"
    ):
        DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs).train()
    assert sum(computed) == (4 if precompute else 0)


def test_a_stale_store_without_the_first_step_is_refused_before_training(
    config: Config, pairs: datasets.Dataset, tmp_path: Path
) -> None:
    args = config(reference_cache=str(tmp_path), train_sampling_strategy="sequential")
    DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs.select(range(4, 12))).train()
    make_stale(tmp_path)
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
    with pytest.raises(UsageError, match="the stored log-probabilities differ"):
        trainer.compute_reference(skip_first_step=True)


def test_a_reference_whose_values_are_all_stored_is_only_spot_checked_and_then_released(
    config: Config, pairs: datasets.Dataset, model_folder: Path, computed: list[int], tmp_path: Path
) -> None:
    args = config(reference_cache=str(tmp_path / "reference"))
    first = losses(DPOTrainer(make_tiny_model(1), str(model_folder), args=args, train_dataset=pairs))
    computed.clear()
    trainer = DPOTrainer(make_tiny_model(1), str(model_folder), args=args, train_dataset=pairs)
    assert losses(trainer) == first
    assert computed == [4]
    assert isinstance(trainer.reference.model, ModelOnDemand)  # type: ignore[attr-defined]
    assert trainer.reference.model._network is None  # type: ignore[attr-defined]
    make_stale(tmp_path / "reference")
    with pytest.raises(UsageError, match="the stored log-probabilities differ"):
        DPOTrainer(make_tiny_model(1), str(model_folder), args=args, train_dataset=pairs).train()


def test_two_adapters_on_one_model_never_share_stored_values(
    config: Config, pairs: datasets.Dataset, tmp_path: Path
) -> None:
    args = config(reference_cache=str(tmp_path / "reference"))
    for seed in (0, 1, 0):
        model = make_tiny_model()
        torch.manual_seed(seed)
        adapter = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
        losses(DPOTrainer(get_peft_model(model, adapter), args=args, train_dataset=pairs))
    assert len(list((tmp_path / "reference").iterdir())) == 2


def test_new_rows_after_training_need_a_reference(config: Config, pairs: datasets.Dataset) -> None:
    trainer = DPOTrainer(make_tiny_model(), args=config(), train_dataset=pairs)
    trainer.train()
    trainer.evaluate(pairs)
    with pytest.raises(UsageError, match="no copy of the initial policy was kept, so reference log-probabilities"):
        trainer.evaluate(make_pairs(5, seed=9))
    kept = DPOTrainer(make_tiny_model(), args=config(precompute_reference=False), train_dataset=pairs)
    kept.train()
    assert kept.evaluate(make_pairs(5, seed=9))["eval_rewards/margins"] != 0


def test_a_reference_that_differs_from_the_initial_policy_is_reported(
    config: Config, pairs: datasets.Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compute = Precomputed.compute
    monkeypatch.setattr(
        Precomputed, "compute", lambda self, batch: compute(self, batch) - torch.arange(len(batch.lengths))
    )
    args = config(max_steps=1, precompute_reference=True)
    DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs).train()
    assert "Before the first step policy and reference should agree" in caplog.text


def noisy(model: Any, kind: str) -> Any:
    """Return a model whose layers compute something else in training mode."""

    def add_noise(module: torch.nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        return output + 0.5 * torch.rand_like(output) if module.training else output

    if kind == "hook":
        model.model.layers[0].mlp.register_forward_hook(add_noise)
    return model


@pytest.mark.parametrize("precompute", [None, True, False])
@pytest.mark.parametrize("kind", ["hook", "neftune", "adapter"])
def test_noise_in_training_mode_has_no_effect_on_the_reference(
    kind: str,
    precompute: bool | None,
    config: Config,
    pairs: datasets.Dataset,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    alpha = 15.0 if kind != "hook" else None
    store = None if precompute is False else str(tmp_path / "reference")
    args = config(precompute_reference=precompute, neftune_noise_alpha=alpha, reference_cache=store)
    adapter = {"r": 2, "target_modules": ["q_proj"]} if kind == "adapter" else None
    trainer = DPOTrainer(noisy(make_tiny_model(), kind), args=args, train_dataset=pairs, peft_config=adapter)
    trainer.train()
    _, rows, table = trainer.pair_metrics.history()
    for side in ("chosen", "rejected"):
        expected = naive_logps(make_tiny_model(), pairs, side)[rows]
        np.testing.assert_allclose(table[:, COLUMNS.index(f"reference_logps/{side}")], expected, rtol=1e-4)
    assert "Before the first step policy and reference should agree" in caplog.text
    if kind != "hook" and precompute is None:  # sequences are padded with such a hook
        assert "training mode adds noise" in caplog.text
    if store is not None:  # and a run without noise can use the stored values
        args = config(reference_cache=store)
        quiet = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
        assert losses(quiet)[0] == pytest.approx(np.log(2), abs=1e-6)


def test_the_first_step_provides_the_reference_of_a_policy_without_noise_but_for_one_check(
    config: Config, computed: list[int]
) -> None:
    args = config(max_steps=2, per_device_train_batch_size=8, max_tokens_per_microbatch=60)
    DPOTrainer(make_tiny_model(), args=args, train_dataset=make_pairs(16)).train()
    assert sum(computed) < 2 * 16
