"""Decide whether a run packs sequences, or pads two per pair."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device

from dpo_data.errors import UsageError
from dpo_train.attention.probe import disagreement, logp_difference
from dpo_train.attention.support import unsupported_reason
from dpo_train.batches.batch import SIDES, PaddedBatch
from dpo_train.batches.packed import collate_packed
from dpo_train.batches.padded import DPODataCollatorWithPadding
from dpo_train.config import DPOConfig
from dpo_train.data.rows import PairRows
from dpo_train.logprobs.scoring import PackedScorer, PaddedScorer
from dpo_train.models import evaluating
from dpo_train.reference.live import FrozenModel, ModelOnDemand

#: The two shortest of this many rows are computed both ways, and at least this many tokens of each sequence.
PROBE_CANDIDATES, MIN_PROBE_TOKENS = 256, 64


#: Methods of DPOTrainer that a subclass may override, and that only exist for padded batches.
PADDED_METHODS = ("concatenated_forward", "concatenated_inputs")


@dataclass(frozen=True)
class Packing:
    """How the sequences of a run are batched.

    Attributes:
        reason: why they are padded; None if they are packed.
        max_tokens: maximum distinct tokens per micro-batch, if they are packed.
    """

    reason: str | None
    max_tokens: int = 0


def padding_reason(
    args: DPOConfig,
    model: Any,
    data: Sequence[Any],
    *,
    overridden: Sequence[str] = (),
    custom_collator: bool = False,
    preprocesses_logits: bool = False,
    n_gpu: int,
) -> str | None:
    """Return why sequences must be padded, as far as it is known before anything is computed.

    Args:
        args: the arguments of the run.
        model: the policy.
        data: training and evaluation sets.
        overridden: the `PADDED_METHODS` that a subclass overrides.
        custom_collator: whether the user passed a data_collator.
        preprocesses_logits: whether the user passed preprocess_logits_for_metrics.
        n_gpu: GPUs that this process uses.

    Raises:
        UsageError: packing was requested and is not possible.
    """
    requested = args.attention_path
    if requested == "padded":
        return "as requested"
    if overridden:
        reason: str | None = f"{' and '.join(overridden)} is overridden"
    elif custom_collator:
        reason = "a data_collator was passed"
    elif preprocesses_logits:
        reason = "preprocess_logits_for_metrics needs the logits"
    elif args.ld_alpha is not None:
        reason = "ld_alpha weighs the log-probabilities of single tokens, which are not stored"
    elif args.pad_to_multiple_of is not None:
        reason = "pad_to_multiple_of was set"
    elif args.use_weighting:
        reason = "use_weighting needs the logits"
    elif not all(isinstance(rows, PairRows) for rows in data):
        reason = "a dataset is iterable"
    elif n_gpu > 1:
        reason = "one process uses several GPUs; start it with torchrun"
    else:
        reason = unsupported_reason(model)
    _refuse_if_requested(requested, reason)
    return reason


def resolve_packing(
    requested: str,
    model: Any,
    data: Sequence[PairRows],
    *,
    packed: PackedScorer,
    padded: PaddedScorer,
    collate: DPODataCollatorWithPadding,
    max_tokens: int,
    dtype: torch.dtype,
    reference: Any = None,
) -> Packing:
    """Compute some pairs in several ways, packed and padded, and pack only if all results agree.

    Args:
        requested: DPOConfig.attention_path.
        model: the policy, on its device.
        data: training and evaluation sets; without any, there is nothing to compare.
        packed: computes packed batches.
        padded: computes padded batches.
        collate: makes padded batches.
        max_tokens: maximum distinct tokens per micro-batch.
        dtype: dtype that the model computes in.
        reference: the reference model; one with separate weights is tried too.

    Raises:
        UsageError: packing was requested, and the results differ.
    """
    if not data:
        return Packing(None, max_tokens)
    rows = data[0]
    shortest = np.argsort(rows.pair_lengths[:PROBE_CANDIDATES], kind="stable")[:2]
    # Two padded sequences per pair have to fit into the budget of a micro-batch.
    length = max(max_tokens // (2 * len(shortest)), MIN_PROBE_TOKENS)
    pairs = [_truncated(pair, length) for pair in rows.pairs(shortest)]
    device = packed.accelerator.device
    packed_batch = collate_packed(pairs).to(device)
    padded_batch = PaddedBatch.from_dict(send_to_device(collate(pairs), device), collate.label_pad_token_id)
    reason = disagreement(
        model,
        packed=lambda: packed.logps(model, packed_batch),
        padded=lambda: padded.logps(model, padded_batch),
        dtype=dtype,
    )
    with torch.no_grad(), evaluating(model):
        reason = reason or _depends_on_batch(model, data, packed, dtype, max_tokens)
    if reason is None and isinstance(reference, FrozenModel | ModelOnDemand):
        with reference.active() as network:
            reason = unsupported_reason(network)
            if reason is None:
                logps = torch.stack(packed.logps(network, packed_batch))
                difference = logp_difference(logps, torch.stack(padded.logps(network, padded_batch)), dtype)
                if difference is not None:
                    reason = f"its log-probabilities differ by {difference:.1e} from those of padded sequences"
            reason = reason or _depends_on_batch(network, data, packed, dtype, max_tokens)
        reason = reason and f"the reference cannot share prompts: {reason}"
    _refuse_if_requested(requested, reason)
    return Packing(reason, max_tokens)


def _depends_on_batch(
    model: Any, data: Sequence[PairRows], packed: PackedScorer, dtype: torch.dtype, max_tokens: int
) -> str | None:
    """Return a reason if a pair has other log-probabilities in chunks of the head, or next to the longest pair.

    Rotary embeddings of some models (longrope, dynamic) depend on the longest sequence of a batch.
    """
    device = packed.accelerator.device
    [shortest] = data[0].pairs([data[0].pair_lengths[:PROBE_CANDIDATES].argmin()])
    alone = collate_packed([shortest]).to(device)
    expected = torch.stack(packed.logps(model, alone))
    positions = max(len(alone.logits_to_keep) // 2, 1)
    in_chunks = dataclasses.replace(packed, positions=positions).logps(model, alone)
    if (difference := logp_difference(torch.stack(in_chunks), expected, dtype)) is not None:
        return f"its log-probabilities differ by {difference:.1e} if the head computes them in chunks"
    longest = _longest_pair(data, max_tokens - alone.tokens)
    if longest is None:  # no two pairs are ever computed together
        return None
    together = packed.logps(model, collate_packed([shortest, longest]).to(device))
    if (difference := logp_difference(torch.stack(together)[:, :1], expected, dtype)) is not None:
        return f"its log-probabilities differ by {difference:.1e} next to a longer sequence"
    return None


def _longest_pair(data: Sequence[PairRows], max_tokens: int) -> Mapping[str, Any] | None:
    """Return the pair with the longest sequence among those of at most this many tokens; None if there is none."""
    found: Mapping[str, Any] | None = None
    longest = 0
    for rows in data:
        tokens = np.sum([*rows.lengths.values()], axis=0)
        fitting = np.where(tokens <= max_tokens, rows.pair_lengths, 0)
        row = int(fitting.argmax())
        if fitting[row] > longest:
            longest, [found] = fitting[row], rows.pairs([row])
    return found


def _refuse_if_requested(requested: str, reason: str | None) -> None:
    if reason is not None and requested == "shared":
        raise UsageError(f"prompts cannot be shared: {reason}.", "attention_path", requested)


def _truncated(pair: Mapping[str, Any], length: int) -> dict[str, Any]:
    """Return a pair with the end of its prompt and the beginnings of its responses, `length` tokens per sequence."""
    prompt = pair["prompt_ids"][-(length // 2) :]
    responses = {f"{side}_ids": pair[f"{side}_ids"][: length - len(prompt)] for side in SIDES}
    return {**pair, "prompt_ids": prompt, **responses}
