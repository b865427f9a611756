"""Score the pairs of a batch with a model: two padded sequences per pair, or one packed sequence."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dpo_train.attention.register import shared_prefixes
from dpo_train.batches.batch import PackedBatch, PaddedBatch
from dpo_train.logprobs.packed import packed_logps
from dpo_train.logprobs.padded import completion_logps, length_desensitized, next_tokens, policy_weights
from dpo_train.models import without_adapter

#: Tensors by name, as a collator returns them.
TensorDict: TypeAlias = dict[str, Any]


class PairScores(NamedTuple):
    """Log-probabilities in nats and mean logits of the responses of B pairs, (B,) each; the mean logits have no graph.

    `router_loss` is the loss of a mixture of experts that outputs one. `weights`, (B,), are those of WPO, if requested.
    """

    chosen_logps: Tensor
    rejected_logps: Tensor
    chosen_mean_logits: Tensor
    rejected_mean_logits: Tensor
    router_loss: Tensor | None = None
    weights: Tensor | None = None


class Scorer(Protocol):
    """Computes scores of pairs with the policy, and their log-probabilities with a reference."""

    def score(self, model: nn.Module, batch: Any) -> PairScores:
        """Return the scores of the pairs of a batch."""

    def logps(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of chosen and rejected responses, (B,) each."""


@dataclass(frozen=True)
class PackedScorer:
    """Computes each shared prefix once.

    Args:
        accelerator: that wraps the model and sets autocast.
        lean: reduce activation memory, see `memory.lean`.
        positions: positions of which the head computes logits at a time; see `packed_logps`.
    """

    accelerator: Accelerator
    lean: bool = True
    positions: int | None = None

    def response_scores(self, model: Any, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and mean logits of the R distinct responses of a batch, (R,) each."""
        network = without_adapter(self.accelerator.unwrap_model(model))
        with self.accelerator.autocast(), shared_prefixes(network):
            return packed_logps(model, network, batch, lean=self.lean, positions=self.positions)

    def score(self, model: nn.Module, batch: PackedBatch) -> PairScores:
        """Return the scores of the pairs of a batch."""
        return pair_scores(batch, *self.response_scores(model, batch))

    def logps(self, model: nn.Module, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of chosen and rejected responses, (B,) each."""
        logps, _ = self.response_scores(model, batch)
        return logps[batch.chosen], logps[batch.rejected]


def pair_scores(batch: PackedBatch, logps: Tensor, mean_logits: Tensor) -> PairScores:
    """Return the scores of pairs from those of the R distinct responses."""
    chosen, rejected = batch.chosen, batch.rejected
    return PairScores(logps[chosen], logps[rejected], mean_logits[chosen], mean_logits[rejected])


class PaddedOutput(NamedTuple):
    """Result of a padded forward pass: log-probabilities (B,), logits (B, K, V), and router loss and weights if any."""

    chosen_logps: Tensor
    rejected_logps: Tensor
    chosen_logits: Tensor
    rejected_logits: Tensor
    router_loss: Tensor | None
    weights: Tensor | None


@dataclass(frozen=True)
class PaddedScorer:
    """Computes two padded sequences per pair.

    Args:
        accelerator: that wraps the model and sets autocast.
        label_pad_token_id: label of prompt and padding tokens.
        takes_logits_to_keep: whether the forward pass of the model takes `logits_to_keep`.
        concatenate: `DPOTrainer.concatenated_inputs`.
        custom_forward: `DPOTrainer.concatenated_forward` of a subclass that overrides it; None to use `forward`.
        preprocess_logits: applied to logits and labels before mean logits are computed, in evaluation.
        ld_alpha: weight of the tokens beyond the length of the shorter response; None for 1.
        use_weighting: whether to compute the weights of WPO.
    """

    accelerator: Accelerator
    label_pad_token_id: int
    takes_logits_to_keep: bool
    concatenate: Callable[[TensorDict], TensorDict]
    custom_forward: Callable[[nn.Module, TensorDict], tuple[Tensor, ...]] | None = None
    preprocess_logits: Callable[[Tensor, Tensor], Tensor] | None = None
    ld_alpha: float | None = None
    use_weighting: bool = False

    def forward(self, model: nn.Module, tensors: TensorDict) -> PaddedOutput:
        """Run one forward pass over chosen and rejected sequences together."""
        inputs = self.concatenate(tensors)
        targets = next_tokens(inputs["concatenated_labels"], self.label_pad_token_id)
        first = int((targets != self.label_pad_token_id).any(0).nonzero()[0])
        kept = targets.shape[1] - first
        output = model(
            input_ids=inputs["concatenated_input_ids"],
            attention_mask=inputs["concatenated_attention_mask"],
            **({"logits_to_keep": kept} if self.takes_logits_to_keep else {}),
        )
        logits = output.logits[:, -kept:]
        token_logps = completion_logps(logits, targets[:, -kept:], self.label_pad_token_id)
        predicted = targets[:, -kept:] != self.label_pad_token_id
        logps = token_logps.sum(1)
        if self.ld_alpha is not None:
            logps = length_desensitized(token_logps, predicted, self.ld_alpha)
        weights = None
        if self.use_weighting:
            weights = policy_weights(logits, token_logps, predicted).view(2, -1).prod(0)
        (chosen, rejected), (chosen_logits, rejected_logits) = logps.chunk(2), logits.chunk(2)
        router_loss = getattr(output, "aux_loss", None)
        return PaddedOutput(chosen, rejected, chosen_logits, rejected_logits, router_loss, weights)

    def score(self, model: nn.Module, batch: PaddedBatch) -> PairScores:
        """Return the scores of the pairs of a batch."""
        with self.accelerator.autocast():
            if self.custom_forward is None:
                output = self.forward(model, batch.tensors)
            else:
                output = PaddedOutput._make((*self.custom_forward(model, batch.tensors), None, None))
            means = self._mean_logits(model, output.chosen_logits, output.rejected_logits, batch)
        return PairScores(output.chosen_logps, output.rejected_logps, *means, output.router_loss, output.weights)

    def logps(self, model: nn.Module, batch: PaddedBatch) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of chosen and rejected responses, (B,) each."""
        with self.accelerator.autocast():
            chosen, rejected, *_ = (self.custom_forward or self.forward)(model, batch.tensors)
        return chosen, rejected

    @torch.no_grad()
    def _mean_logits(
        self, model: nn.Module, chosen: Tensor, rejected: Tensor, batch: PaddedBatch
    ) -> tuple[Tensor, Tensor]:
        """Return mean logits over the vocabulary and the positions that predict a response token, (B,) each."""
        targets = next_tokens(self.concatenate(batch.tensors)["concatenated_labels"], self.label_pad_token_id)
        targets = targets[:, -chosen.shape[1] :]
        if self.preprocess_logits is not None and not model.training:
            chosen, rejected = self.preprocess_logits(torch.cat([chosen, rejected]), targets).chunk(2)
        means = torch.cat([chosen.mean(-1, dtype=torch.float32), rejected.mean(-1, dtype=torch.float32)])
        predicted = targets != self.label_pad_token_id
        chosen_mean, rejected_mean = ((means * predicted).sum(1) / predicted.sum(1)).chunk(2)
        return chosen_mean, rejected_mean


def takes_logits_to_keep(network: Any) -> bool:
    """Return True if the forward pass of a model computes the logits of chosen positions only."""
    return "logits_to_keep" in inspect.signature(network.forward).parameters


def compute_dtype(accelerator: Accelerator, model: nn.Module) -> torch.dtype:
    """Return the dtype that matrix products are computed in."""
    mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)
    dtype: torch.dtype = mixed or next(model.parameters()).dtype
    return dtype


def rounding_error(dtype: torch.dtype) -> float:
    """Return an upper bound on the relative rounding error of a log-probability computed in this dtype."""
    return 1e-4 if dtype.itemsize >= torch.float32.itemsize else 3e-2
