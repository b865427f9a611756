"""Load the batches of training and evaluation sets."""

from collections.abc import Mapping
from typing import Any

import datasets

from dpo_train.batches.packed import collate_step
from dpo_train.batches.padded import DPODataCollatorWithPadding
from dpo_train.batches.sampler import StepSampler
from dpo_train.data.rows import PairRows
from dpo_train.data.text import RowReader
from dpo_train.models import without_adapter
from dpo_train.objective import Objective
from dpo_train.reference.live import own_network
from dpo_train.trainer.comparison import Comparison
from dpo_train.trainer.hf_trainer import HFTrainer
from dpo_train.trainer.loaders import (
    EVALUATION,
    check_data,
    check_model,
    check_stream,
    make_evaluation_loader,
    make_loader,
    make_sampler,
    make_stream_loader,
    one_dataset,
    pair_rows_in,
)
from dpo_train.trainer.packing import Packing


class LoadingTrainer(HFTrainer):
    """A trainer that loads pairs, in any form that `RowReader` reads, as packed or padded batches."""

    pair_loss: Objective
    _read: RowReader
    _comparison: Comparison

    @property
    def padding_reason(self) -> str | None:
        """Why sequences are padded; None if they are packed, or if `resolve_packing` was not called yet."""
        return self._comparison.padding_reason

    def resolve_packing(self) -> Packing:
        """Decide between packing and padding; the first call computes two pairs both ways to compare the results."""
        if self._comparison.packing is None and self.place_model_on_device:
            self.move_to_device(self.model)
        data = pair_rows_in(self.train_dataset, self.eval_dataset)
        return self._comparison.resolve_packing(data, self.data_collator)

    @property
    def _has_rows(self) -> bool:
        """True if datasets are rows of token ids; a collator of the user's gets its own rows."""
        return isinstance(self.data_collator, DPODataCollatorWithPadding)

    def check_rows(self, rows: PairRows) -> None:
        """Raise UsageError if the model or the loss cannot take some pairs."""
        check_data(rows, without_adapter(self.model), self.pair_loss)

    def check_reference_takes_rows(self, network: Any) -> None:
        """Raise UsageError if a reference model cannot take some pairs of training or evaluation set."""
        for rows in pair_rows_in(self.train_dataset, self.eval_dataset):
            check_model(rows, without_adapter(network), "the reference")

    def get_train_dataloader(self) -> Any:
        """Return micro-batches whose steps have the same pairs for any number of ranks and micro-batches."""
        rows = self.train_dataset
        if isinstance(rows, datasets.IterableDataset) and self._has_rows:
            drop_last = self.args.dataloader_drop_last
            return self._stream_loader(rows, self.micro_batch_size, drop_last=drop_last)
        if rows is None or not hasattr(rows, "__len__"):
            return super().get_train_dataloader()
        collate = collate_step if self.resolve_packing().reason is None else self.data_collator
        return make_loader(rows, self._make_sampler(), collate, self.args, self.accelerator)

    def _stream_loader(self, pairs: Any, size: int, **options: Any) -> Any:
        check_stream(self.args)
        return make_stream_loader(pairs, size, self.data_collator, self.args, self.accelerator, **options)

    def _make_sampler(self) -> StepSampler:
        return make_sampler(
            self.train_dataset,
            self.args,
            self.resolve_packing(),
            micro_batch=self.micro_batch_size,
            ranks=self.accelerator.num_processes,
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Return the batches of an evaluation set in its order; computes log-probabilities that a reference lacks.

        Args:
            eval_dataset: text, token ids, or the path of a prepared folder, as for the constructor; or the name of one
                of its evaluation sets. None for the only one.
        """
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(rows, str) and isinstance(self.eval_dataset, Mapping) and rows in self.eval_dataset:
            rows = self.eval_dataset[rows]
        elif eval_dataset is not None and self._has_rows:
            rows = self._read(one_dataset(rows, EVALUATION), name=EVALUATION, split="test")
        if isinstance(rows, datasets.IterableDataset) and self._has_rows:
            return self._stream_loader(rows, self.args.eval_batch_size)
        if isinstance(rows, PairRows):
            self.check_rows(rows)
            if (network := own_network(self._comparison.reference)) is not None:
                check_model(rows, without_adapter(network), "the reference")
        if self.resolve_packing().reason is not None or not isinstance(rows, PairRows):
            return super().get_eval_dataloader(rows if eval_dataset is not None else None)
        if self.state.global_step > 0:
            self._comparison.refuse_initial_policy()
        self._comparison.compute_missing(rows)
        return make_evaluation_loader(rows, self.args, self.resolve_packing(), self.accelerator)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """Return the batches of a dataset for `predict`, which takes what `evaluate` takes."""
        return self.get_eval_dataloader(test_dataset)
