"""Datasets of a run: check them, and load their batches."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import datasets
import torch
from accelerate import Accelerator
from accelerate.data_loader import DataLoaderShard

from dpo_data.errors import UsageError
from dpo_train.batches.budget import TokenBudget
from dpo_train.batches.packed import collate_within
from dpo_train.batches.sampler import StepSampler
from dpo_train.config import DPOConfig
from dpo_train.data.rows import PairRows
from dpo_train.data.streams import RankBatches
from dpo_train.models import vocabulary_size
from dpo_train.objective import Objective
from dpo_train.trainer.packing import Packing

#: Names of the datasets of a run in messages.
TRAIN, EVALUATION = "the training set", "the evaluation set"


def one_dataset(data: Any, name: str) -> Any:
    """Return a dataset.

    Raises:
        UsageError: it is several datasets by name.
    """
    if isinstance(data, Mapping):
        raise UsageError(f"{name}: this is several datasets ({', '.join(map(str, data))}); pass one of them.")
    return data


def datasets_in(*data: Any) -> Iterator[Any]:
    """Yield the single datasets among training and evaluation data, which may be dicts of datasets or None."""
    for part in data:
        if isinstance(part, Mapping):
            yield from datasets_in(*part.values())
        elif part is not None:
            yield part


def pair_rows_in(*data: Any) -> list[PairRows]:
    """Return the tokenized datasets among training and evaluation data."""
    return [rows for rows in datasets_in(*data) if isinstance(rows, PairRows)]


def check_model(rows: PairRows, network: Any, role: str) -> None:
    """Raise UsageError if a model, the policy or the reference as `role` says, cannot take the rows of a dataset."""
    rows.check_fits(vocabulary_size(network), getattr(network.config, "max_position_embeddings", None), role)


def check_data(rows: PairRows, network: Any, objective: Objective) -> None:
    """Raise UsageError if the model or the loss cannot take the rows of a dataset."""
    check_model(rows, network, "the model")
    if "score_margins" in objective.inputs and not rows.has_scores:
        raise UsageError(f"{rows.name}: the loss {objective} needs chosen_score and rejected_score for every pair.")


def make_sampler(rows: PairRows, args: DPOConfig, packing: Packing, *, micro_batch: int, ranks: int) -> StepSampler:
    """Return the sampler of the training set.

    Args:
        rows: the training set.
        args: the arguments of the run.
        packing: how sequences are batched.
        micro_batch: maximum pairs per forward pass, if they are padded.
        ranks: number of processes that train together.

    Raises:
        UsageError: the sampling strategy is not supported, or there is no step.
    """
    if args.train_sampling_strategy not in ("random", "sequential"):
        raise UsageError("choose random or sequential.", "train_sampling_strategy", args.train_sampling_strategy)
    is_packed = packing.reason is None
    seed = args.seed if args.data_seed is None else args.data_seed
    sampler = StepSampler(
        len(rows),
        micro_batch=micro_batch,
        accumulation=args.gradient_accumulation_steps,
        ranks=ranks,
        seed=seed if args.train_sampling_strategy == "random" else None,
        drop_last=args.dataloader_drop_last,
        prompts=rows.prompts if is_packed and not args.scatter_prompts else None,
        budget=TokenBudget(rows, packing.max_tokens) if is_packed else None,
    )
    if len(sampler) == 0:
        reason = f"leaves out all of the {len(rows)} pairs, which are fewer than those of a step."
        raise UsageError(reason, "dataloader_drop_last", True)
    return sampler


def make_evaluation_loader(rows: PairRows, args: DPOConfig, packing: Packing, accelerator: Accelerator) -> Any:
    """Return a data loader of packed rows in their order, each batch in micro-batches within the token budget."""
    sampler = torch.utils.data.BatchSampler(range(len(rows)), args.eval_batch_size, drop_last=False)
    collate = functools.partial(collate_within, max_tokens=packing.max_tokens)
    return make_loader(rows, sampler, collate, args, accelerator)


def make_loader(rows: PairRows, sampler: Any, collate: Any, args: DPOConfig, accelerator: Accelerator) -> Any:
    """Return a data loader that distributes the batches of a batch sampler over ranks."""
    loader = torch.utils.data.DataLoader(
        rows,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
    )
    return accelerator.prepare(loader)


def check_stream(args: DPOConfig) -> None:
    """Raise UsageError if reference log-probabilities of an iterable dataset are to be computed before training."""
    if args.precompute_reference:
        reason = "is not supported with IterableDataset, whose pairs are unknown before they are read."
        raise UsageError(reason, "precompute_reference", True)


def make_stream_loader(
    pairs: datasets.IterableDataset, size: int, collate: Any, args: DPOConfig, accelerator: Accelerator, **options: Any
) -> Any:
    """Return a data loader of this rank's batches of a stream of pairs.

    Args:
        pairs: the stream, which every rank reads.
        size: pairs per batch and rank.
        collate: makes a batch.
        args: the arguments of the run.
        accelerator: of the processes that train together.
        options: of `RankBatches`.
    """
    batches = RankBatches(pairs, size, rank=accelerator.process_index, ranks=accelerator.num_processes, **options)
    # accelerate would send every batch from the first process, which needs batches of one length.
    return DataLoaderShard(
        batches,
        batch_size=None,
        collate_fn=collate,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
    )
