"""Log-probabilities of packed sequences."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dpo_train.batches.batch import PackedBatch
from dpo_train.logprobs.head import ChunkedHead, has_plain_logits, token_logps
from dpo_train.memory.lean import fuse_tied_embedding_grad, recompute_gated_mlp
from dpo_train.models import vocabulary_size

#: Larger logits of one micro-batch are computed in chunks, and recomputed in the backward pass.
MAX_LOGITS = 2**27
MAX_LOGITS_WITHOUT_BACKWARD = 2**24


def packed_logps(
    model: nn.Module, network: Any, batch: PackedBatch, *, lean: bool = True, positions: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of the responses of a packed batch, computed in one call of the model.

    Args:
        model: the model as it is wrapped for training, inside `shared_prefixes`.
        network: the same model, unwrapped.
        batch: R distinct responses.
        lean: reduce activation memory with the replaced forwards of `memory.lean`.
        positions: positions of which the head computes logits at a time; None for what fits into `MAX_LOGITS`.

    Returns: (R,) float32, the sum over each response's tokens, in nats; and (R,), without a gradient, the mean logit
        over the vocabulary and the positions that predict the response.

    Source: Rafailov et al. 2023, arXiv:2305.18290, section 4.
    """
    inputs = {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "logits_to_keep": batch.logits_to_keep,
        "segments": batch.segments,
    }
    head = network.get_output_embeddings()
    max_logits = MAX_LOGITS if torch.is_grad_enabled() else MAX_LOGITS_WITHOUT_BACKWARD
    chunk = positions or max_logits // vocabulary_size(network)
    with recompute_gated_mlp(network) if lean and torch.is_grad_enabled() else nullcontext():
        if len(batch.logits_to_keep) > chunk and has_plain_logits(network.config):
            with ChunkedHead(head, batch.predictors, batch.targets, chunk) as chunked:
                model(**inputs, use_cache=False)
            logps, means = chunked.logps, chunked.means
        else:
            with fuse_tied_embedding_grad(network) if lean else nullcontext():
                logits = model(**inputs, use_cache=False).logits[0]
            logps, means = token_logps(logits, batch.predictors, batch.targets)
    zeros = logps.new_zeros(len(batch.lengths))
    sums = zeros.index_add(0, batch.responses, logps)
    return sums, zeros.index_add(0, batch.responses, means[batch.predictors]) / batch.lengths
