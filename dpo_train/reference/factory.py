"""Choose and create the reference of a run."""

import dataclasses
import functools
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dpo_data.errors import UsageError
from dpo_train.logprobs.scoring import PackedScorer, Scorer
from dpo_train.models import evaluating, frozen, vocabulary_size
from dpo_train.reference.live import (
    AdapterCopy,
    DisabledAdapter,
    FrozenModel,
    InitialPolicy,
    LiveReference,
    ModelOnDemand,
    Reference,
    ReferenceModel,
)
from dpo_train.reference.precompute import Precomputed
from dpo_train.sharding import is_sharded


def make_reference(
    ref_model: Any,
    policy: Any,
    scorer: Scorer,
    *,
    precompute: bool | None,
    live_reason: str | None,
    cache: str | None,
    prepare: Callable[[Any], Any],
) -> Reference:
    """Return the reference of a run.

    Args:
        ref_model: a model, its path or Hub id, or a `ModelOnDemand`; None for the policy as it is now.
        policy: the model to train.
        scorer: computes log-probabilities.
        precompute: compute each log-probability once; None if possible.
        live_reason: why log-probabilities must be computed in every step; None if they can be precomputed.
        cache: folder that stores log-probabilities for later runs.
        prepare: makes a reference model ready to compute; loads one that is given by its path.

    Raises:
        UsageError: precomputing was requested and is not possible; or the policy is its own reference and is sharded,
            so that it cannot be copied.
    """
    check_precompute(precompute, live_reason)
    is_live = live_reason is not None or precompute is False
    if ref_model is None:
        needs_copy = is_live or hasattr(policy, "disable_adapter")
        model: ReferenceModel = own_reference_model(policy) if needs_copy else InitialPolicy(policy)
    elif isinstance(ref_model, ModelOnDemand):
        model = dataclasses.replace(ref_model, load=lambda: prepare(ref_model.load()))
    elif isinstance(ref_model, str):
        model = ModelOnDemand(ref_model, lambda: prepare(ref_model))
    else:
        model = FrozenModel(prepare(ref_model))
    if is_live or not isinstance(scorer, PackedScorer):
        return LiveReference(model, scorer)
    return Precomputed(model, scorer, policy, None if cache is None else Path(cache))


def check_precompute(precompute: bool | None, live_reason: str | None) -> None:
    """Raise UsageError if precomputing was requested and is not possible."""
    if precompute and live_reason is not None:
        raise UsageError(f"is not possible: {live_reason}.", "precompute_reference", True)


def own_reference_model(policy: Any) -> ReferenceModel:
    """Return the policy as it is now, for runs without a reference model.

    A new adapter has no effect yet, so the policy with the adapter disabled is the same; a trained adapter is copied.

    Raises:
        UsageError: the policy is sharded, which cannot be copied.
    """
    if is_sharded(policy):
        raise UsageError(
            "the model is sharded over several processes, so no frozen copy of it can be made.\n"
            "  Load the reference in the same way and pass it as ref_model."
        )
    if not hasattr(policy, "disable_adapter"):
        return FrozenModel(frozen(deepcopy(policy)), "a frozen copy of the policy")
    if adapter_has_no_effect(policy):
        return DisabledAdapter(policy)
    weights = {name: tensor.detach().clone() for name, tensor in policy.named_parameters() if tensor.requires_grad}
    return AdapterCopy(policy, weights)


def adapter_has_no_effect(policy: Any) -> bool:
    """Return True if a model computes the same with its adapter enabled and disabled, as a new adapter does."""
    base = policy.get_base_model()
    embedding, count = base.get_input_embeddings(), vocabulary_size(base)
    ids = torch.arange(8, device=policy.device)[None] % count
    computations: list[Callable[[], Tensor]] = [lambda: policy(input_ids=ids).logits[:, -ids.shape[1] :]]
    if type(embedding) is not nn.Embedding:  # an adapter may have changed the embeddings of a few tokens
        parts = torch.split(torch.arange(count, device=policy.device), 4096)
        computations += [functools.partial(embedding, part) for part in parts]
    with torch.no_grad(), evaluating(policy):
        for compute in computations:
            enabled = compute()
            with policy.disable_adapter():
                if not torch.allclose(enabled, compute(), rtol=1e-4, atol=1e-5):
                    return False
    return True


def padded_reference(reference: Reference, policy: Any, scorer: Scorer) -> Reference:
    """Return a reference for padded batches in place of one for packed batches.

    Args:
        reference: the reference for packed batches.
        policy: copied if it is its own reference, because padded runs have no store.
        scorer: computes log-probabilities of padded batches.
    """
    if isinstance(reference, Precomputed):
        waiting = isinstance(reference.model, InitialPolicy)
        return LiveReference(own_reference_model(policy) if waiting else reference.model, scorer)
    return dataclasses.replace(reference, scorer=scorer) if isinstance(reference, LiveReference) else reference
