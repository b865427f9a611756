"""First lines of a run: batches and attention path in words."""

from dpo_train.config import DPOConfig
from dpo_train.data.rows import PairRows
from dpo_train.trainer.trainer import DPOTrainer


def _path_described(trainer: DPOTrainer) -> str:
    if trainer.padding_reason is not None:
        return f"padded: {trainer.padding_reason}"
    text = f"shared prompts, no padding, up to {trainer.resolve_packing().max_tokens:,} tokens at a time"
    if not isinstance(trainer.train_dataset, PairRows):
        return text
    distinct, all_tokens = trainer.train_dataset.distinct_tokens, trainer.train_dataset.two_sequence_tokens
    return f"{text}; {distinct:,} distinct tokens, {1 - distinct / all_tokens:.0%} less than two sequences a pair"


def _batch_described(args: DPOConfig, shared: bool = False) -> str:
    ranks = args.world_size
    pairs = args.per_device_train_batch_size * args.gradient_accumulation_steps * ranks
    if shared:
        return f"{pairs} pairs a step"
    micro_batch, accumulated = args.per_device_train_batch_size, args.gradient_accumulation_steps
    return f"{micro_batch * accumulated * ranks} pairs a step ({ranks} x {accumulated} x {micro_batch})"
