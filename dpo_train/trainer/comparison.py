"""Compare policy and reference on batches of pairs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers.utils import logging

from dpo_train.batches.batch import PackedBatch, PaddedBatch
from dpo_train.batches.packed import collate_packed
from dpo_train.batches.padded import DPODataCollatorWithPadding
from dpo_train.batches.sampler import StepSampler
from dpo_train.config import DPOConfig
from dpo_train.data.rows import PairRows
from dpo_train.diagnosis import warn_if_policy_is_not_reference
from dpo_train.logprobs.scoring import (
    PackedScorer,
    PaddedScorer,
    PairScores,
    TensorDict,
    compute_dtype,
    pair_scores,
    rounding_error,
    takes_logits_to_keep,
)
from dpo_train.memory.allocator import suggested_tokens
from dpo_train.models import without_adapter
from dpo_train.reference.factory import make_reference, padded_reference
from dpo_train.reference.given import GivenLogps, uses_given_logps
from dpo_train.reference.live import InitialPolicy, NoReference, Reference
from dpo_train.reference.precompute import Precomputed
from dpo_train.trainer.loaders import check_stream
from dpo_train.trainer.packing import Packing, padding_reason, resolve_packing

logger = logging.get_logger(__name__)


@dataclass
class Comparison:
    """Log-probabilities of pairs under policy and reference, computed packed or padded.

    Attributes:
        args: arguments of the run.
        policy: the model to train.
        reference: the reference.
        packed: scores packed batches.
        padded: scores padded batches.
        packing: how sequences are batched; None until `resolve_packing`, if it has to be tried.
        is_own_reference: whether the reference is the policy before its first step.
        is_noisy: whether the policy computes something else in training mode; None until the first training batch.
    """

    args: DPOConfig
    policy: Any
    reference: Reference
    packed: PackedScorer
    padded: PaddedScorer
    packing: Packing | None
    is_own_reference: bool
    is_noisy: bool | None = None

    @property
    def padding_reason(self) -> str | None:
        """Why sequences are padded; None if they are packed, or if `resolve_packing` was not called yet."""
        return None if self.packing is None else self.packing.reason

    def resolve_packing(self, data: Sequence[PairRows], collate: DPODataCollatorWithPadding) -> Packing:
        """Decide between packing and padding; the first call computes two pairs both ways to compare the results.

        Args:
            data: training and evaluation sets.
            collate: makes padded batches.

        Raises:
            UsageError: packing was requested and gives other results.
        """
        if self.packing is None:
            network, device = without_adapter(self.policy), self.packed.accelerator.device
            self.packing = resolve_packing(
                self.args.attention_path,
                self.policy,
                data,
                packed=self.packed,
                padded=self.padded,
                collate=collate,
                max_tokens=self.args.max_tokens_per_microbatch or suggested_tokens(network, device),
                dtype=compute_dtype(self.packed.accelerator, self.policy),
                reference=getattr(self.reference, "model", None),
            )
            if self.packing.reason is not None:
                self.reference = padded_reference(self.reference, self.policy, self.padded)
                logger.warning(f"Sequences are padded instead of packed: {self.packing.reason}.")
        return self.packing

    def compute_missing(
        self, rows: PairRows, wanted: np.ndarray | None = None, skip: Callable[[], np.ndarray] | None = None
    ) -> None:
        """Compute the log-probabilities that a precomputed reference lacks; see `Precomputed.compute_missing`.

        Args:
            rows: a dataset.
            wanted: row numbers, (n,); None for all rows.
            skip: returns rows that need not be computed.
        """
        if isinstance(self.reference, Precomputed) and self.packing is not None:
            self.reference.compute_missing(
                rows,
                np.arange(len(rows)) if wanted is None else wanted,
                max_tokens=self.packing.max_tokens,
                max_pairs=self.args.precompute_ref_batch_size,
                skip=skip,
                show_progress=self.packed.accelerator.is_main_process and not self.args.disable_tqdm,
            )

    def compute_for_training(self, rows: PairRows, sampler: StepSampler, *, skip_first_step: bool) -> None:
        """Compute the log-probabilities of the training set that a precomputed reference lacks and the run needs.

        Args:
            rows: the training set.
            sampler: the order of its rows.
            skip_first_step: skip rows whose values the policy provides in its first step, if it is its own reference.
        """
        ahead, max_steps = self.args.precompute_reference, self.args.max_steps
        wanted = None if ahead or max_steps <= 0 else sampler.rows_of(max_steps)
        # Other ranks would not see the values of this one's first step.
        provided = skip_first_step and self.is_own_reference and self.packed.accelerator.num_processes == 1
        self.compute_missing(rows, wanted, (lambda: next(sampler.steps(0))) if provided and not ahead else None)

    def refuse_initial_policy(self) -> None:
        """Make an initial policy refuse to compute log-probabilities from now on, after its first step."""
        if self.initial_policy is not None:
            self.initial_policy.started = True

    @property
    def initial_policy(self) -> InitialPolicy | None:
        """The policy, if it is its own reference and no copy of it is kept."""
        model = self.reference.model if isinstance(self.reference, Precomputed) else None
        return model if isinstance(model, InitialPolicy) else None

    def compare(
        self, model: nn.Module, batch: PaddedBatch | PackedBatch, *, is_initial: bool
    ) -> tuple[PairScores, tuple[Tensor, Tensor]]:
        """Return the scores of the policy, and the log-probabilities of the reference.

        Args:
            model: the policy as it is wrapped for training.
            batch: a batch; a padded one is packed if this run packs.
            is_initial: whether the policy is its own reference and has not taken a step.
        """
        if not is_initial:
            self.refuse_initial_policy()
        if isinstance(batch, PaddedBatch) and self.padding_reason is None:
            batch = collate_packed(batch.rows()).to(self.packed.accelerator.device)
        if isinstance(batch, PackedBatch):
            logps, mean_logits = self.packed.response_scores(model, batch)
            if is_initial and isinstance(self.reference, Precomputed) and self._is_reference_pass(model, batch, logps):
                self.reference.add_from_policy(batch, logps.detach())
            scores = pair_scores(batch, logps, mean_logits)
        else:
            scores = self.padded.score(model, batch)
        chosen, rejected = self.reference.logps(batch)
        if is_initial:
            # With rounding errors, the accuracy of a policy that has not learned anything would be a coin toss.
            error = rounding_error(compute_dtype(self.packed.accelerator, model))
            chosen = _without_rounding_error(chosen, scores.chosen_logps, error)
            rejected = _without_rounding_error(rejected, scores.rejected_logps, error)
        return scores, (chosen, rejected)

    def warn_if_policy_differs(self, metrics: Mapping[str, Tensor], policy: nn.Module, *, beta: float) -> None:
        """Log a warning if a policy that is its own reference differs from it before the first step."""
        warn_if_policy_is_not_reference(
            metrics, beta=beta, policy=policy, reference=self.reference, is_noisy=self.is_noisy
        )

    def _is_reference_pass(self, model: nn.Module, batch: PackedBatch, logps: Tensor) -> bool:
        """Return True if the policy's forward pass is free of noise that only training has, such as NEFTune's.

        The first batch in training mode is computed a second time by the reference, which decides for the whole step.
        """
        if not model.training:
            return True
        if self.is_noisy is None and isinstance(self.reference, Precomputed):
            error = rounding_error(compute_dtype(self.packed.accelerator, model))
            with self.reference.model.active() as network:
                computed, _ = self.packed.response_scores(network, batch)
            self.is_noisy = bool(((logps - computed).abs() > error * (1 + computed.abs())).any())
        return not self.is_noisy


def make_comparison(
    args: DPOConfig,
    accelerator: Accelerator,
    policy: Any,
    ref_model: Any,
    *,
    data: Sequence[Any],
    label_pad_token_id: int,
    is_own_collator: bool,
    concatenated_inputs: Callable[[TensorDict], TensorDict],
    concatenated_forward: Callable[..., Any] | None,
    overridden: Sequence[str],
    preprocess_logits: Callable[[Tensor, Tensor], Tensor] | None,
    needs_reference: bool,
    wraps_later: bool,
    prepare: Callable[[Any], Any],
) -> Comparison:
    """Return the comparison of a policy with the reference of a run.

    Args:
        args: arguments of the run.
        accelerator: of the processes that train together.
        policy: the model to train.
        ref_model: a model, its path or Hub id, or a `ModelOnDemand`; None for the policy as it is now.
        data: training and evaluation sets.
        label_pad_token_id: label of prompt and padding tokens.
        is_own_collator: whether batches are made by the trainer's own collator.
        concatenated_inputs: of the trainer.
        concatenated_forward: of the trainer, if a subclass overrides it.
        overridden: the `PADDED_METHODS` that a subclass overrides.
        preprocess_logits: applied to the logits before their metrics.
        needs_reference: whether the loss uses a reference.
        wraps_later: whether the policy will be wrapped when training starts, and cannot compute before.
        prepare: makes a loaded reference model ready to compute.
    """
    reason = padding_reason(
        args,
        policy,
        data,
        overridden=overridden,
        custom_collator=not is_own_collator,
        preprocesses_logits=preprocess_logits is not None,
        n_gpu=args.n_gpu,
    )
    packed = PackedScorer(accelerator, lean=args.reduce_activation_memory)
    padded = PaddedScorer(
        accelerator,
        label_pad_token_id,
        takes_logits_to_keep(without_adapter(policy)),
        concatenated_inputs,
        custom_forward=concatenated_forward,
        preprocess_logits=preprocess_logits,
        ld_alpha=args.ld_alpha,
        use_weighting=args.use_weighting,
    )
    reference: Reference = NoReference()
    if any(isinstance(rows, datasets.IterableDataset) for rows in data):
        check_stream(args)
    is_given = needs_reference and uses_given_logps(data, ref_model=ref_model)
    if is_given:
        reference = GivenLogps()
    elif needs_reference:
        reference = make_reference(
            ref_model,
            policy,
            packed if reason is None else padded,
            precompute=args.precompute_reference,
            live_reason=reason or _live_reason(args, wraps_later),
            cache=args.reference_cache,
            prepare=prepare,
        )
    packing = None if reason is None else Packing(reason)
    return Comparison(
        args, policy, reference, packed, padded, packing, is_own_reference=ref_model is None and not is_given
    )


def _live_reason(args: DPOConfig, wraps_later: bool) -> str | None:
    """Return why the reference must be able to compute during training; None if its values can be stored before."""
    reasons = {
        "FSDP and DeepSpeed wrap the model too late": wraps_later,
        "sync_ref_model changes the reference": args.sync_ref_model,
        "generate_during_eval compares new responses with the reference": args.generate_during_eval,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _without_rounding_error(reference: Tensor, policy: Tensor, error: float) -> Tensor:
    """Return reference log-probabilities, replaced by the policy's where the two only differ by rounding, (B,)."""
    is_equal = (reference - policy).abs() <= error * (1 + reference.abs())
    return torch.where(is_equal, policy.detach(), reference)
