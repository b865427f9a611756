"""What a batch is, and how many pairs and tokens it holds."""

from collections.abc import Mapping
from typing import Any

import torch

#: Tensors by name, and of a packed batch its `Segments`.
Batch = dict[str, Any]


SIDES = ("chosen", "rejected")


#: What a row may say of its pair, and as which type it goes into the batch.
PER_PAIR_FIELDS = (("row", torch.int64), ("weight", torch.float32), ("score_margin", torch.float32))


def tokens_in(batch: Mapping[str, Any]) -> int:
    """How many tokens a batch makes a model compute, padding included."""
    if "micro_batches" in batch:
        return sum(map(tokens_in, batch["micro_batches"]))
    names = ("input_ids",) if "input_ids" in batch else tuple(f"{side}_input_ids" for side in SIDES)
    return sum(int(batch[name].numel()) for name in names)


def pairs_in(batch: Mapping[str, Any]) -> float:
    """How many pairs of a batch count."""
    if "micro_batches" in batch:
        return sum(map(pairs_in, batch["micro_batches"]))
    return (
        float(batch["weight"].sum()) if "weight" in batch else len(batch.get("chosen", batch.get("chosen_input_ids")))
    )
