"""The plan of a run, as --dry-run prints it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from dpo_train.attention.support import unsupported_reason
from dpo_train.data.rows import PairRows
from dpo_train.memory.allocator import suggested_tokens
from dpo_train.models import without_dropout
from dpo_train.run.describe import _batch_described
from dpo_train.run.inputs import _inputs, _load
from dpo_train.run.options import RunOptions


@dataclass(frozen=True)
class Plan:
    """What a run would do. Memory is an estimate: weights, gradients, Adam's state and logits, without activations.

    Attributes:
        tokens: the token cache.
        pairs: by split.
        longest_pair: in tokens, prompt and longer response.
        distinct_tokens: of the training split, each prompt and each response to it counted once.
        steps: optimizer steps.
        micro_batches: pairs of a step and how they would be cut if padded.
        path: how a batch would be computed, as far as the configuration tells.
        parameters: of the model.
        memory_gib: on each device.
    """

    tokens: Path
    pairs: Mapping[str, int]
    longest_pair: int
    distinct_tokens: int
    steps: int
    micro_batches: str
    path: str
    parameters: int
    memory_gib: float


def plan(options: RunOptions) -> Plan:
    """What `run` would do with the same options; loads no weights and writes nothing but a missing token cache.

    Raises:
        DataError: as `run` would, as far as it can be known without the model.
    """
    args, cache, splits = _inputs(options)
    rows = {name: PairRows(split, f"{cache.path} {name}") for name, split in splits.items()}
    config = _load(AutoConfig, options.model)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    parameters = model.num_parameters()
    why_padded = "as requested" if args.attention_path == "padded" else unsupported_reason(without_dropout(model))
    for split in rows.values():
        split.check_fits(config.vocab_size, getattr(config, "max_position_embeddings", None))
    longest = max(split.longest_pair for split in rows.values())
    step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    steps = args.max_steps if args.max_steps > 0 else -(-len(rows["train"]) * args.num_train_epochs // step)
    size = 2 if options.dtype in ("bfloat16", "float16") else 4
    # Weights, gradients and two moments of Adam; padded, the reference's weights too. Logits and their gradient.
    weights = parameters * size * (4 if why_padded is None else 5)
    positions = args.max_tokens_per_microbatch or suggested_tokens(model, torch.device("cpu"))
    if why_padded is not None:
        positions = 2 * args.per_device_train_batch_size * longest
    logits = positions * config.vocab_size * 4 * 2
    return Plan(
        tokens=cache.path,
        pairs={name: len(split) for name, split in rows.items()},
        longest_pair=longest,
        distinct_tokens=rows["train"].distinct_tokens if "train" in rows else 0,
        steps=int(steps),
        micro_batches=_batch_described(args),
        path=f"padded: {why_padded}" if why_padded else "shared prompts",
        parameters=parameters,
        memory_gib=(weights + logits) / 2**30,
    )
