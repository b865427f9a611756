"""Reference log-probabilities: computed once, kept, found again, and never taken for those of another reference."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from toys import make_pairs, make_tiny_model

from dpo_data.errors import InputError, UsageError
from dpo_train import DPOConfig, DPOTrainer
from dpo_train.data.rows import PairRows
from dpo_train.reference.live import FrozenModel, InitialPolicy, ModelOnDemand
from dpo_train.reference.precompute import Precomputed
from dpo_train.reference.store import ReferenceStore, files_identity, weights_identity

Config = Callable[..., DPOConfig]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many responses each call asked a live reference about."""
    counts: list[int] = []
    for kind in (FrozenModel, InitialPolicy, ModelOnDemand):

        def counting(self: Any, forward: Any, batch: Any, real: Any = kind.logps) -> Any:
            counts.append(len(batch["tokens"]))
            return real(self, forward, batch)

        monkeypatch.setattr(kind, "logps", counting)
    return counts


def losses(trainer: DPOTrainer) -> list[float]:
    trainer.train()
    return [record["loss"] for record in trainer.state.log_history if "loss" in record]


def test_each_response_is_asked_about_once_over_epochs_evaluations_and_swapped_pairs(
    config: Config, pairs: datasets.Dataset, asked: list[int]
) -> None:
    swapped = pairs.rename_columns({"chosen_ids": "rejected_ids", "rejected_ids": "chosen_ids"}).select_columns(
        pairs.column_names
    )
    everything = datasets.concatenate_datasets([pairs, swapped])
    args = config(max_steps=-1, num_train_epochs=3, eval_strategy="steps", eval_steps=2)
    trainer = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, train_dataset=everything, eval_dataset=pairs)
    trainer.train()
    trainer.evaluate()
    assert sum(asked) == 2 * len(pairs)


def test_only_the_rows_that_a_run_visits_are_asked_about_unless_all_are_wanted(
    config: Config, asked: list[int]
) -> None:
    for wanted, expected in ((None, 2 * 8), (True, 2 * 40)):
        asked.clear()
        args = config(max_steps=2, precompute_reference=wanted)
        DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, train_dataset=make_pairs(40)).train()
        assert sum(asked) == expected


def test_what_the_policy_says_in_its_first_step_is_its_own_reference_and_is_kept_for_the_next_run(
    config: Config, pairs: datasets.Dataset, asked: list[int], tmp_path: Path
) -> None:
    curves = []
    for ahead, expected in ((None, 2 * (len(pairs) - 4)), (True, 2 * len(pairs))):
        asked.clear()
        args = config(max_steps=9, precompute_reference=ahead, reference_cache=str(tmp_path / str(ahead)))
        trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
        curves.append(losses(trainer))
        assert sum(asked) == expected
        assert len(ReferenceStore(next((tmp_path / str(ahead)).iterdir()))) == 2 * len(pairs)
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)
    assert curves[0][-1] < 0.69


def test_a_resumed_run_asks_for_all_of_its_reference(
    config: Config, pairs: datasets.Dataset, asked: list[int], tmp_path: Path
) -> None:
    """Its first step is none of the untrained policy's."""
    args = config(max_steps=6, save_steps=2, save_strategy="steps", output_dir=str(tmp_path))
    whole = losses(DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs))
    asked.clear()
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert sum(asked) == 2 * len(pairs)
    again = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    assert again == pytest.approx(whole, rel=1e-6)


def test_a_policy_that_was_trained_before_is_no_reference_for_other_rows(
    config: Config, pairs: datasets.Dataset
) -> None:
    trainer = DPOTrainer(make_tiny_model(), args=config(), train_dataset=pairs)
    trainer.train()
    trainer.train_dataset = PairRows(make_pairs(5, seed=9))
    with pytest.raises(UsageError, match="of which no copy is kept"):
        trainer.train()


def test_a_reference_of_its_own_gives_what_a_frozen_copy_gives(config: Config, pairs: datasets.Dataset) -> None:
    curves = []
    for precompute in (None, False):
        args = config(max_steps=6, precompute_reference=precompute)
        trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
        assert isinstance(trainer.reference, Precomputed) is (precompute is None)
        curves.append(losses(trainer))
    assert curves[0][0] == pytest.approx(np.log(2), abs=1e-7)
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_a_second_run_asks_nothing_and_is_equal(
    config: Config, pairs: datasets.Dataset, asked: list[int], tmp_path: Path
) -> None:
    args = config(reference_cache=str(tmp_path / "reference"))
    first = losses(DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, train_dataset=pairs))
    assert sum(asked) == 24
    asked.clear()
    second = losses(DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, train_dataset=pairs))
    assert sum(asked) == 4  # the spot check of two pairs
    assert first == second
    (folder,) = (tmp_path / "reference").iterdir()
    assert json.loads((folder / "reference.json").read_text())["dtype"] == "torch.float32"


def test_another_reference_has_a_folder_of_its_own(config: Config, pairs: datasets.Dataset, tmp_path: Path) -> None:
    args = config(reference_cache=str(tmp_path / "reference"))
    one = make_tiny_model(1)
    other = make_tiny_model(1)
    with torch.no_grad():
        other.model.layers[1].mlp.down_proj.weight.mul_(1.001)
    for reference in (one, other, one):
        DPOTrainer(make_tiny_model(), reference, args=args, train_dataset=pairs).train()
    assert len(list((tmp_path / "reference").iterdir())) == 2


def test_the_identity_tells_weights_dtype_and_settings_apart_and_leaves_adapters_out() -> None:
    model = make_tiny_model()
    identity = weights_identity(model, dtype="float32")
    assert identity == weights_identity(make_tiny_model(), dtype="float32")
    assert identity != weights_identity(model, dtype="bfloat16")
    assert identity != weights_identity(make_tiny_model(1), dtype="float32")
    assert identity != weights_identity(make_tiny_model().bfloat16(), dtype="float32")


def test_the_identity_of_a_weight_larger_than_float32_counts_sees_its_last_value() -> None:
    model = torch.nn.Linear(2**13, 3457, bias=False, dtype=torch.bfloat16)
    before = weights_identity(model)
    with torch.no_grad():
        model.weight[-1, -1] += 1
    assert weights_identity(model) != before


@pytest.mark.parametrize("ahead", [True, None], ids=["two are asked for again", "the first step says so"])
def test_a_stored_value_that_the_reference_does_not_give_is_refused(
    ahead: bool | None, config: Config, pairs: datasets.Dataset, asked: list[int], tmp_path: Path
) -> None:
    args = config(reference_cache=str(tmp_path), precompute_reference=ahead)
    DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs).train()
    asked.clear()
    for file in tmp_path.glob("*/*.npy"):
        entries = np.load(file)
        entries["logp"] -= 1
        np.save(file, entries)
    with pytest.raises(
        UsageError, match=r"holds other log-probabilities than the reference gives .*\n  Delete the folder"
    ):
        DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs).train()
    assert sum(asked) == (4 if ahead else 0)


def test_a_stale_store_that_lacks_the_first_step_is_refused_before_it(
    config: Config, pairs: datasets.Dataset, tmp_path: Path
) -> None:
    args = config(reference_cache=str(tmp_path), train_sampling_strategy="sequential")
    DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs.select(range(4, 12))).train()
    for file in tmp_path.glob("*/*.npy"):
        entries = np.load(file)
        entries["logp"] -= 1
        np.save(file, entries)
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
    with pytest.raises(UsageError, match="holds other log-probabilities"):
        trainer.compute_reference(skip_first_step=True)


def test_a_reference_that_is_all_stored_is_never_loaded(
    config: Config, pairs: datasets.Dataset, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = config(reference_cache=str(tmp_path / "reference"))
    first = losses(DPOTrainer(make_tiny_model(1), str(model_folder), args=args, train_dataset=pairs))

    def loaded(_: Any) -> Any:
        raise AssertionError("the reference was loaded")

    monkeypatch.setattr(
        "dpo_train.trainer.trainer.load_model", lambda model: loaded(model) if isinstance(model, str) else model
    )
    assert losses(DPOTrainer(make_tiny_model(1), str(model_folder), args=args, train_dataset=pairs)) == first


def test_a_model_folder_with_other_weights_has_another_identity(model_folder: Path, tmp_path: Path) -> None:
    make_tiny_model(1).save_pretrained(tmp_path / "other")
    assert files_identity(model_folder, dtype="x") != files_identity(tmp_path / "other", dtype="x")
    assert files_identity(model_folder, dtype="x") == files_identity(model_folder, dtype="x")


def test_rows_that_were_not_there_when_training_began_need_a_reference(config: Config, pairs: datasets.Dataset) -> None:
    trainer = DPOTrainer(make_tiny_model(), args=config(), train_dataset=pairs)
    trainer.train()
    trainer.evaluate(pairs)
    with pytest.raises(UsageError, match="the reference was the policy before training, of which no copy is kept"):
        trainer.evaluate(make_pairs(5, seed=9))
    kept = DPOTrainer(make_tiny_model(), args=config(precompute_reference=False), train_dataset=pairs)
    kept.train()
    assert kept.evaluate(make_pairs(5, seed=9))["eval_rewards/margins"] != 0


# ---- the files -------------------------------------------------------------------------------------------------------


def keys(*numbers: int) -> np.ndarray:
    return np.array([[number, -number] for number in numbers], np.int64)


def test_values_are_found_by_their_whole_key(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    store.add(keys(5, 2, 9), np.array([-5.0, -2.0, -9.0], np.float32), np.array([1, 2, 3]))
    store.add(keys(2, 7), np.array([-20.0, -7.0], np.float32), np.array([2, 4]))
    values, known = store.find(np.array([[9, -9], [2, -2], [3, -3], [5, 0], [7, -7]], np.int64))
    assert known.tolist() == [True, True, False, False, True]
    assert values.tolist() == [-9.0, -2.0, 0.0, 0.0, -7.0]
    assert len(store) == 4


def test_what_was_saved_is_read_again_and_a_cut_off_write_is_not_seen(tmp_path: Path) -> None:
    for number in (1, 2):
        store = ReferenceStore(tmp_path)
        store.add(keys(number), np.array([-number], np.float32), np.array([1]))
        store.save()
        store.save()
    (tmp_path / "killed.partial").write_bytes(b"\x93NUMPY")
    assert len(list(tmp_path.glob("*.npy"))) == 2
    again = ReferenceStore(tmp_path)
    assert again.find(keys(1, 2))[0].tolist() == [-1.0, -2.0]
    again.save()
    assert len(list(tmp_path.glob("*.npy"))) == 2


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"no numbers at all"])
def test_a_broken_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "part.npy").write_bytes(content)
    with pytest.raises(
        InputError, match=r"part\.npy: cannot be read: [^\n]*\n  Delete it: its values are computed again"
    ):
        ReferenceStore(tmp_path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "part.npy", np.arange(3))
    with pytest.raises(InputError, match="holds no reference log-probabilities"):
        ReferenceStore(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ReferenceStore(tmp_path / "file" / "below")
    store.add(keys(1), np.array([-1], np.float32), np.array([1]))
    with pytest.raises(UsageError, match=r"cannot be written: .*\n  Give a folder that can: --cache-dir"):
        store.save()


def test_values_of_other_processes_count_and_are_not_saved_twice(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    store.add(keys(1), np.array([-1], np.float32), np.array([1]))
    store.add(keys(2), np.array([-2], np.float32), np.array([1]), saved=True)
    store.save()
    assert store.find(keys(1, 2))[1].all()
    assert ReferenceStore(tmp_path).find(keys(1, 2))[1].tolist() == [True, False]


def test_the_step_before_anything_is_learned_checks_policy_against_reference(
    config: Config, pairs: datasets.Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reference that gives something else than the policy is told, and its values are kept."""
    real = InitialPolicy.logps
    monkeypatch.setattr(
        InitialPolicy,
        "logps",
        lambda *args: real(*args) - torch.arange(len(args[2]["tokens"])),
    )
    args = config(max_steps=1, precompute_reference=True)
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
    trainer.train()
    assert "Before the first step policy and reference should agree" in caplog.text
