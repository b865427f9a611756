"""The plan of a run, as --dry-run prints it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from dpo_data.errors import loading
from dpo_train.adapters import adapter_config
from dpo_train.config import DEFAULT_BETA, DPOConfig, check_reference, make_objective, resolve_beta
from dpo_train.data.caches import describe_truncation
from dpo_train.data.rows import PairRows
from dpo_train.memory.allocator import suggested_tokens
from dpo_train.models import without_dropout
from dpo_train.objective import Objective
from dpo_train.reference.factory import check_precompute
from dpo_train.run.describe import describe_batch
from dpo_train.run.inputs import load_inputs, load_pretrained
from dpo_train.run.options import RunOptions
from dpo_train.trainer.loaders import check_data
from dpo_train.trainer.packing import padding_reason

#: Bytes of a weight in NF4 with double quantization: 4.127 bits (Dettmers et al. 2023, arXiv:2305.14314, section 3).
_NF4_BYTES = 4.127 / 8


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        model: its path or name on the Hub.
        tokens: the token cache; None if the run has to make it.
        pairs: by split.
        truncated: prompts and responses that truncation cuts, in words; empty if none.
        longest_pair: in tokens, prompt and longer response.
        distinct_tokens: of the training split, each prompt and each response to it counted once.
        steps: optimizer steps.
        micro_batches: pairs of a step, and how padded batches would split them.
        path: how a batch is computed, as far as the model's configuration shows.
        parameters: of the model.
        trained_parameters: those of the adapter, or all.
        memory_gib: on each device: weights, gradients, Adam's moments and logits, without activations; an estimate.
    """

    model: str
    tokens: Path | None
    pairs: Mapping[str, int]
    truncated: str
    longest_pair: int
    distinct_tokens: int
    steps: int
    micro_batches: str
    path: str
    parameters: int
    trained_parameters: int
    memory_gib: float


def plan(options: RunOptions, say: Callable[[str], None]) -> Plan:
    """Return what `run` would do with the same options. Loads no weights and writes nothing.

    Args:
        options: of the run.
        say: takes a line for the user.

    Raises: DataError: `run` would refuse them, as far as that can be known without the weights.
    """
    # Tokens that do not exist yet are made in a temporary folder, so that all checks of the run are made here too.
    with TemporaryDirectory(prefix="dpo-train-") as scratch:
        options, args, tokens, splits, *_ = load_inputs(options, say, scratch=Path(scratch))
        names = {"train": "the training set", "test": "the evaluation set"}  # as the trainer's messages have them
        rows = {name: PairRows(split, names[name]) for name, split in splits.items()}
        model = _empty_model(str(options.model), options)
        check_reference(args, given=options.reference is not None)
        for split in rows.values():
            check_data(split, model, _objective(args))
        why_padded = padding_reason(args, without_dropout(model), [*rows.values()], n_gpu=args.n_gpu)
        check_precompute(args.precompute_reference, why_padded)
        longest = max(split.longest_pair for split in rows.values())
        step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        steps = 0
        if not options.eval_only:
            steps = args.max_steps if args.max_steps > 0 else -(-len(rows["train"]) * args.num_train_epochs // step)
        return Plan(
            model=str(options.model),
            tokens=None if tokens[0].path.is_relative_to(scratch) else tokens[0].path,
            pairs={name: len(split) for name, split in rows.items()},
            truncated=describe_truncation(tokens),
            longest_pair=longest,
            distinct_tokens=rows["train"].distinct_tokens if "train" in rows else 0,
            steps=int(steps),
            micro_batches=describe_batch(args),
            path=f"padded: {why_padded}" if why_padded else "shared prompts",
            parameters=model.num_parameters(),
            trained_parameters=_trained_parameters(model, options),
            memory_gib=_memory(model, options, args, longest, padded=why_padded is not None) / 2**30,
        )


def _objective(args: DPOConfig) -> Objective:
    return make_objective(args, resolve_beta(DEFAULT_BETA, args.beta))


def _empty_model(name: str, options: RunOptions) -> Any:
    remote = options.trust_remote_code
    config = load_pretrained(AutoConfig, name, trust_remote_code=remote)
    with loading(name, "model"), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=remote)


def _adapted_layers(model: Any) -> list[nn.Linear]:
    """Return the layers that LoRA adapts and that are held in 4 bits: all linear ones but the output embedding."""
    head = model.get_output_embeddings()
    return [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]


def _trained_parameters(model: Any, options: RunOptions) -> int:
    if options.eval_only:
        return 0
    rank = options.lora_r or (adapter_config(str(options.model)) or {}).get("r")
    if rank is None:
        return int(model.num_parameters())
    return sum(rank * (layer.in_features + layer.out_features) for layer in _adapted_layers(model))


def _memory(model: Any, options: RunOptions, args: DPOConfig, longest: int, *, padded: bool) -> float:
    """Return the bytes of weights, gradients, Adam's moments and logits on each device."""
    size = {"float32": 4, "bfloat16": 2, "float16": 2}.get(options.dtype) or _saved_size(model)
    weights = model.num_parameters() * size
    if options.load_in_4bit:
        weights -= sum(layer.weight.numel() for layer in _adapted_layers(model)) * (size - _NF4_BYTES)
    trained = _trained_parameters(model, options)
    # An adapter is held in float32, besides the frozen weights; a trained model needs its gradient and two moments.
    state = trained * 4 * 4 if options.lora_r is not None else trained * size * 3
    reference = 0.0
    if _objective(args).needs_reference and not args.reference_free:
        if options.reference is not None:
            reference = _empty_model(options.reference, options).num_parameters() * size
        elif padded and options.lora_r is None:
            reference = weights  # a copy of the model before training
    positions = args.max_tokens_per_microbatch or suggested_tokens(model, torch.device("cpu"))
    if padded:
        positions = 2 * args.per_device_train_batch_size * longest
    logits = positions * model.config.vocab_size * 4 * 2  # with their gradient
    return float(weights + state + reference + logits)


def _saved_size(model: Any) -> int:
    dtype = getattr(model.config, "dtype", None)
    return dtype.itemsize if isinstance(dtype, torch.dtype) else 4
