"""All overrides and uses of private members of transformers.Trainer, read against transformers 5.19 and 5.23."""

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from dpo_train.adapters import MERGED_BASE, save_merged_base
from dpo_train.batches.batch import PackedBatch, PaddedBatch, StepBatch
from dpo_train.batches.packed import collate_packed
from dpo_train.batches.sampler import StepSampler
from dpo_train.logprobs.scoring import TensorDict
from dpo_train.trainer.checkpoints import mark_incomplete, require_complete, write_checkpoint_manifest
from dpo_train.trainer.identity import check_identity, policy_identity, run_identity, write_identity
from dpo_train.trainer.metrics import evaluation_loss


def linear_schedule(step: int, *, warmup: int, steps: int) -> float:
    """Return the share of the peak learning rate in a step, counted from 0: linear warmup, linear decay to 0.

    >>> [linear_schedule(step, warmup=1, steps=5) for step in range(6)]
    [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(steps - step, 0) / max(steps - warmup, 1)


class HFTrainer(Trainer):  # type: ignore[misc]
    """transformers.Trainer for batches of pairs, with hooks that it lacks: prepare_run, begin_run, checkpoint_state."""

    #: The loss is divided by the pairs of the whole optimizer step, so Trainer must not divide it again.
    loss_is_scaled_for_ga = True

    label_pad_token_id: int
    data_collator: Any
    #: Checkpoint that the run resumes from; None for a new run.
    _checkpoint: Path | None = None
    #: Whether the reference is the policy as it is before its first step.
    is_own_reference: bool
    #: The policy that was first trained, and the hash of its weights then: a later run of this trainer may resume it.
    _initial_weights: tuple[Any, str | None] | None = None

    def prepare_run(self) -> None:
        """Prepare for a run whose policy and arguments are final, before a checkpoint is loaded."""

    def begin_run(self, state: dict[str, Any]) -> None:
        """Prepare for the first step of a run, after a checkpoint was loaded.

        Args:
            state: what `checkpoint_state` returned when the checkpoint was saved; empty for a new run.
        """

    def begin_step(self, batches: Sequence[Any]) -> None:
        """Prepare for the micro-batches of an optimizer step."""

    def checkpoint_state(self) -> dict[str, Any]:
        """Return what a checkpoint needs besides the state that transformers saves."""
        return {}

    def as_batch(self, inputs: Any) -> PaddedBatch | PackedBatch:
        """Return a batch with its type: the dict of a collator is a padded batch, a whole step one packed batch."""
        if isinstance(inputs, StepBatch):
            first, *others = inputs.micro_batches
            return collate_packed(inputs.rows()).to(self.args.device) if others else first
        return inputs if isinstance(inputs, PackedBatch) else PaddedBatch.from_dict(inputs, self.label_pad_token_id)

    def hyperparameter_search(self, hp_space: Any = None, compute_objective: Any = None, **kwargs: Any) -> Any:
        """Search as transformers.Trainer does, by default for the lowest evaluation loss.

        Every trial has a new policy from `model_init`, which is its own reference without `ref_model`.
        """
        return super().hyperparameter_search(hp_space, compute_objective or evaluation_loss, **kwargs)

    def as_padded(self, inputs: Any) -> TensorDict:
        """Return a batch of any loader of this trainer as the dict of tensors that a collator makes, on the device."""
        if isinstance(inputs, PackedBatch | StepBatch):
            inputs = self.data_collator(inputs.rows())
        tensors: TensorDict = self.batch_on_device(inputs)
        return tensors

    def micro_batches_on_device(self, batches: Sequence[Any]) -> Iterator[PaddedBatch | PackedBatch]:
        """Yield the micro-batches of an optimizer step, which Trainer collected, on the device of this process."""
        for batch in batches:
            for micro in batch.micro_batches if isinstance(batch, StepBatch) else [batch]:
                yield self.as_batch(self.batch_on_device(micro))

    def tokens_and_pairs(self, inputs: Any) -> tuple[int, float]:
        """Return how many token positions a batch or a step computes, padding included, and how many pairs count."""
        batch = inputs if isinstance(inputs, StepBatch) else self.as_batch(inputs)
        return batch.tokens, batch.pairs

    def move_to_device(self, model: Any) -> None:
        """Move a model to the device of this process."""
        self._move_model_to_device(model, self.args.device)

    def batch_on_device(self, inputs: Any) -> Any:
        """Return a batch on the device of this process."""
        return self._prepare_inputs(inputs)

    @property
    def micro_batch_size(self) -> int:
        """Pairs per forward pass; `auto_find_batch_size` lowers it during training."""
        size: int = self._train_batch_size or self.args.train_batch_size
        return size

    def train_on_micro_batches(self, model: nn.Module, batches: Sequence[Any], num_items_in_batch: Any) -> Tensor:
        """Run forward and backward of each batch in turn; gradients are synchronized between ranks in the last one."""
        total = torch.zeros((), device=self.args.device)
        gradient_state = self.accelerator.gradient_state
        synchronizes = gradient_state.sync_gradients
        gradient_state._set_sync_gradients(False)
        for batch in batches[:-1]:
            with self.accelerator.no_sync(model):
                total += super().training_step(model, batch, num_items_in_batch)
        gradient_state._set_sync_gradients(synchronizes)
        for batch in batches[-1:]:
            total += super().training_step(model, batch, num_items_in_batch)
        return total

    def _prepare_inputs(self, inputs: Any) -> Any:
        """Move a batch to the device. Trainer only knows dicts, lists and tensors."""
        if isinstance(inputs, PackedBatch | StepBatch):
            return inputs.to(self.args.device)
        return super()._prepare_inputs(inputs)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Collect the micro-batches of an optimizer step, and call `begin_step`."""
        batches, pairs = super().get_batch_samples(*args, **kwargs)
        self.begin_step(batches)
        return batches, pairs

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        """Return the pairs of an optimizer step over all ranks. Trainer counts the tokens of batches with `labels`."""
        pairs = torch.tensor(sum(self.tokens_and_pairs(batch)[1] for batch in batch_samples), device=device)
        total: Tensor = self.accelerator.reduce(pairs, "sum")
        return total

    def _track_num_input_tokens(self, inputs: Any) -> None:
        """Count the tokens that were computed, padding included. Trainer counts `input_ids`, and only on request."""
        self.state.num_input_tokens_seen += self.tokens_and_pairs(inputs)[0] * self.accelerator.num_processes

    def _run_epoch(
        self,
        *,
        epoch: int,
        train_dataloader: Any,
        resume_from_checkpoint: str | None,
        epochs_trained: int,
        **kwargs: Any,
    ) -> None:
        """Run an epoch, with two corrections and a hook.

        Trainer would take one more step when a finished run is resumed. Its loader that skips to the step of a
        checkpoint does not pass the epoch on to a batch sampler that accelerate wrapped for several ranks. And it has
        no callback between the loading of a checkpoint and the first step.
        """
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        sampler = getattr(train_dataloader, "batch_sampler", None)
        sampler = getattr(sampler, "batch_sampler", sampler)  # wrapped if there are several ranks
        if isinstance(sampler, StepSampler):
            sampler.set_epoch(epoch)
        if epoch == epochs_trained:
            self.begin_run(self._load_checkpoint_state(resume_from_checkpoint))
        super()._run_epoch(
            epoch=epoch,
            train_dataloader=train_dataloader,
            resume_from_checkpoint=resume_from_checkpoint,
            epochs_trained=epochs_trained,
            **kwargs,
        )

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Create the scheduler of the learning rate: transformers', or the default one of `DPOConfig`."""
        if self.lr_scheduler is None and getattr(self.args, "has_default_schedule", False):
            warmup = self.args.get_warmup_steps(num_training_steps)
            schedule = functools.partial(linear_schedule, warmup=warmup, steps=num_training_steps)
            self.lr_scheduler: Any = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, schedule)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def _hp_search_setup(self, trial: Any) -> None:
        """Set the arguments of a trial; Trainer calls this in every run, after it has called `model_init`."""
        super()._hp_search_setup(trial)
        self.prepare_run()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint with its manifest, and the loss since the last log record, which Trainer would lose."""
        state = self.checkpoint_state()
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        if self.args.should_save:
            mark_incomplete(folder)  # an earlier run may have saved it
        arrays = {name: state.pop(name) for name, value in [*state.items()] if isinstance(value, np.ndarray)}
        np.savez(folder / f"pairs_{self.args.process_index}.npz", **arrays)
        pending = {"loss": self._tr_loss.item(), "last_logged": self._globalstep_last_logged, **state}
        (folder / self._pending_name).write_text(json.dumps(pending), encoding="utf-8")
        if self.args.should_save:
            write_identity(folder, self._identity, self.args)
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process saves files of its own
        if self.args.should_save and folder.is_dir():  # unless it was among those that save_total_limit removes
            write_checkpoint_manifest(folder)

    def _load_checkpoint_state(self, checkpoint: str | None) -> dict[str, Any]:
        if checkpoint is None or not (file := Path(checkpoint) / self._pending_name).exists():
            return {}
        pending: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        self._tr_loss.fill_(pending["loss"])
        self._globalstep_last_logged = pending["last_logged"]
        # The run may have more or fewer processes than the one that saved the checkpoint.
        files = sorted(Path(checkpoint).glob("pairs_*.npz"))[self.args.process_index :: self.args.world_size]
        parts = [dict(np.load(each, allow_pickle=False)) for each in files]
        parts = [part for part in parts if part]
        return pending | {name: np.concatenate([part[name] for part in parts]) for name in (parts or [{}])[0]}

    def identify_run(self) -> None:
        """Compute the identity of a run that saves or resumes, whose policy is as it is before its first step.

        Raises: UsageError: the checkpoint to resume from is incomplete, or another run saved it.
        """
        if self._checkpoint is None and self.args.save_strategy == "no":
            return
        if self._initial_weights is None or self._initial_weights[0] is not self.model:
            self._initial_weights = self.model, policy_identity(self.model)
        self._identity = run_identity(self, self._initial_weights[1])
        if self._checkpoint is not None:
            require_complete(self._checkpoint)
            check_identity(self._checkpoint, self._identity, self.args)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the model; for an adapter on merged weights, which exist nowhere else, those too."""
        save_merged_base(self.accelerator.unwrap_model(self.model), Path(self.args.output_dir) / MERGED_BASE)
        super()._save(output_dir, state_dict)

    @property
    def _pending_name(self) -> str:
        return f"pending_{self.args.process_index}.json"
