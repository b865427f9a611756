"""Types of batches: padded pairs, packed pairs, and the packed micro-batches of one optimizer step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dpo_train.attention.segments import Segments

Side = Literal["chosen", "rejected"]
SIDES: tuple[Side, Side] = ("chosen", "rejected")

#: Optional fields of a row that become (B,) tensors of its batch, and their types.
PAIR_FIELDS = (
    ("row", torch.int64),
    ("weight", torch.float32),
    ("score_margin", torch.float32),
    ("reference_chosen_logps", torch.float32),
    ("reference_rejected_logps", torch.float32),
)


@dataclass(frozen=True, kw_only=True)
class Batch(ABC):
    """B pairs of token sequences.

    Attributes:
        row: (B,) int64, the pairs' row numbers in their dataset; None for rows without a number.
        weight: (B,) float32, 1 for a pair that counts and 0 for one that only fills up a batch; None if all count.
        score_margin: (B,) float32, chosen score minus rejected score; None for data without scores.
        reference_chosen_logps: (B,) float32, log-probability of the chosen response under the reference, where the
            dataset has it.
        reference_rejected_logps: (B,) float32, of the rejected one.
    """

    row: Tensor | None = None
    weight: Tensor | None = None
    score_margin: Tensor | None = None
    reference_chosen_logps: Tensor | None = None
    reference_rejected_logps: Tensor | None = None

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of pairs, B."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """Number of token positions that the model computes, padding included."""

    @abstractmethod
    def response_lengths(self, side: Side) -> Tensor:
        """Return the number of tokens of each pair's chosen or rejected response, (B,)."""

    def terms(self, names: Collection[str]) -> dict[str, Tensor]:
        """Return the properties of the pairs that a loss takes, (B,) each, by their names in `dpo_train.losses`.

        Args:
            names: chosen_tokens, rejected_tokens or score_margins; others, and missing scores, are left out.
        """
        terms = {f"{side}_tokens": self.response_lengths(side) for side in SIDES if f"{side}_tokens" in names}
        if "score_margins" in names and self.score_margin is not None:
            terms["score_margins"] = self.score_margin
        return terms

    @property
    def pairs(self) -> float:
        """Number of pairs that count."""
        return float(self.size) if self.weight is None else float(self.weight.sum())


@dataclass(frozen=True, kw_only=True)
class PaddedBatch(Batch):
    """Two padded sequences per pair: a view of the dict that `DPODataCollatorWithPadding` or a user's collator makes.

    Attributes:
        tensors: the dict itself, with `*_input_ids`, `*_attention_mask` and `*_labels` of both sides.
        label_pad_token_id: label of prompt and padding tokens.
    """

    tensors: dict[str, Any]
    label_pad_token_id: int

    @classmethod
    def from_dict(cls, tensors: dict[str, Any], label_pad_token_id: int) -> "PaddedBatch":
        """Wrap the dict of a collator."""
        optional = {name: tensors.get(name) for name, _ in PAIR_FIELDS}
        return cls(tensors=tensors, label_pad_token_id=label_pad_token_id, **optional)

    @property
    def size(self) -> int:
        """Number of pairs, B."""
        return len(self.tensors["chosen_input_ids"])

    @property
    def tokens(self) -> int:
        """Number of token positions that the model computes, padding included."""
        return sum(int(self.tensors[f"{side}_input_ids"].numel()) for side in SIDES)

    def response_lengths(self, side: Side) -> Tensor:
        """Return the number of tokens of each pair's chosen or rejected response, (B,)."""
        lengths: Tensor = (self.tensors[f"{side}_labels"] != self.label_pad_token_id).sum(1)
        return lengths

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of token ids that the batch was made from."""
        rows: list[dict[str, Any]] = []
        for index in range(self.size):
            row: dict[str, Any] = {}
            for side in SIDES:
                real = self.tensors[f"{side}_attention_mask"][index].bool()
                ids = self.tensors[f"{side}_input_ids"][index][real].cpu()
                in_prompt = self.tensors[f"{side}_labels"][index][real].cpu() == self.label_pad_token_id
                row |= {"prompt_ids": ids[in_prompt].numpy(), f"{side}_ids": ids[~in_prompt].numpy()}
            rows.append(
                row | {name: self.tensors[name][index].item() for name, _ in PAIR_FIELDS if name in self.tensors}
            )
        return rows


@dataclass(frozen=True, kw_only=True)
class PackedBatch(Batch):
    """Pairs packed into one sequence of T distinct tokens, in which a prefix that sequences share appears once.

    The B pairs have R distinct (prompt, response) combinations with N response tokens in total.

    Attributes:
        input_ids: (1, T) int64.
        position_ids: (1, T) int64; a sequence that branches off another continues at the position of the branch.
        segments: which tokens attend to which.
        logits_to_keep: (K,) int64, indices of the tokens that predict a response token; the last token of a prompt
            serves all of its responses.
        predictors: (N,) int64, for each response token, ordered by predictor, which of the K positions predicts it.
        targets: (N,) int64, its id.
        responses: (N,) int64, which of the R responses it belongs to.
        lengths: (R,) int64, tokens of each response.
        keys: (R, 2) int64, a 128-bit hash of each prompt and response.
        chosen: (B,) int64, which of the R responses is the chosen one of each pair.
        rejected: (B,) int64, which is the rejected one.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: Segments
    logits_to_keep: Tensor
    predictors: Tensor
    targets: Tensor
    responses: Tensor
    lengths: Tensor
    keys: Tensor
    chosen: Tensor
    rejected: Tensor

    @property
    def size(self) -> int:
        """Number of pairs, B."""
        return len(self.chosen)

    @property
    def tokens(self) -> int:
        """Number of distinct tokens, T."""
        return self.input_ids.numel()

    def response_lengths(self, side: Side) -> Tensor:
        """Return the number of tokens of each pair's chosen or rejected response, (B,)."""
        lengths: Tensor = self.lengths[getattr(self, side)]
        return lengths

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of token ids that the batch was made from."""
        names = ("input_ids", "logits_to_keep", "predictors", "targets", "responses", "chosen", "rejected")
        arrays = {name: getattr(self, name).cpu().numpy() for name in names}
        starts = np.cumsum(self.segments.table[:, 0]) - self.segments.table[:, 0]
        rows: list[dict[str, Any]] = []
        for index in range(self.size):
            row = {
                name: getattr(self, name)[index].item() for name, _ in PAIR_FIELDS if getattr(self, name) is not None
            }
            for side in SIDES:
                own = arrays["responses"] == arrays[side][index]
                last = arrays["logits_to_keep"][arrays["predictors"][own][0]]  # token of the prompt
                *before, segment = self.segments.keys[int(np.searchsorted(starts, last, side="right")) - 1]
                parts = [*before, slice(segment.start, last + 1)]
                row["prompt_ids"] = np.concatenate([arrays["input_ids"][0, part] for part in parts])
                row[f"{side}_ids"] = arrays["targets"][own]
            rows.append(row)
        return rows

    def to(self, device: torch.device | str) -> "PackedBatch":
        """Return the batch with its tensors on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def pin_memory(self) -> "PackedBatch":
        """Return the batch with its tensors in pinned memory; called by torch's DataLoader."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "PackedBatch":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors: dict[str, Any] = {name: function(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **tensors)


@dataclass(frozen=True)
class StepBatch:
    """The packed micro-batches of one optimizer step, or of one rank's share of it."""

    micro_batches: list[PackedBatch]

    @property
    def tokens(self) -> int:
        """Number of distinct tokens per micro-batch, summed."""
        return sum(batch.tokens for batch in self.micro_batches)

    @property
    def pairs(self) -> float:
        """Number of pairs that count."""
        return sum(batch.pairs for batch in self.micro_batches)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of token ids that the micro-batches were made from."""
        return [row for batch in self.micro_batches for row in batch.rows()]

    def to(self, device: torch.device | str) -> "StepBatch":
        """Return the batch with its tensors on a device."""
        return StepBatch([batch.to(device) for batch in self.micro_batches])

    def pin_memory(self) -> "StepBatch":
        """Return the batch with its tensors in pinned memory; called by torch's DataLoader."""
        return StepBatch([batch.pin_memory() for batch in self.micro_batches])


def pair_fields(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the `PAIR_FIELDS` that rows have, as (B,) tensors by name."""
    return {
        name: torch.tensor([row[name] for row in rows], dtype=dtype) for name, dtype in PAIR_FIELDS if name in rows[0]
    }
