"""Log-probabilities of packed sequences."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dpo_train.logprobs.head import ChunkedHead, is_last_position, token_logps
from dpo_train.memory.lean import fuse_tied_embedding_grad, recompute_gated_mlp

#: More logits than this in one micro-batch are computed in chunks, and again in the backward pass.
MAX_LOGITS = 2**27
MAX_LOGITS_WITHOUT_BACKWARD = 2**24


def packed_logps(model: nn.Module, network: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the responses of a packed batch, by one call of the model.

    Args:
        model: the model as it is wrapped for training, set to attend over shared prefixes.
        network: the same, unwrapped.
        batch: as `batching.SharedPrefixCollator` makes it.

    Returns: (R,) float32 sums over each response's tokens, in nats, and (R,), without a gradient, the mean logit over
        the vocabulary and the positions that predict the response.

    Source: Rafailov et al. 2023, arXiv:2305.18290, section 4.
    """
    inputs = {name: batch[name] for name in ("input_ids", "position_ids", "logits_to_keep", "segments")}
    predictors, targets, positions = batch["predictors"], batch["targets"], len(batch["logits_to_keep"])
    head = network.get_output_embeddings()
    most = MAX_LOGITS if torch.is_grad_enabled() else MAX_LOGITS_WITHOUT_BACKWARD
    at_once = most // max(1, getattr(head, "out_features", 1))
    with recompute_gated_mlp(network) if torch.is_grad_enabled() else nullcontext():
        if positions > at_once and is_last_position(network.config):
            with ChunkedHead(head, predictors, targets, at_once) as chunked:
                model(**inputs, use_cache=False)
            logps, means = chunked.logps, chunked.means
        else:
            with fuse_tied_embedding_grad(network):
                logits = model(**inputs, use_cache=False).logits[0]
            logps, means = token_logps(logits, predictors, targets)
    zeros = logps.new_zeros(len(batch["tokens"]))
    sums = zeros.index_add(0, batch["responses"], logps)
    return sums, zeros.index_add(0, batch["responses"], means[predictors]) / batch["tokens"]
