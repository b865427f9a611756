"""Metrics of pairs: sums between two log records, and the history of every pair that was trained on."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from dpo_data.errors import UsageError
from dpo_train.batches.batch import Batch
from dpo_train.logprobs.scoring import PairScores

T = TypeVar("T")

#: Metrics of a pair, in the order of the columns of a table of pairs. `kl/responses` is the mean over both responses of
#: the reference's log-probability minus the policy's, in nats: where the reference wrote them, an estimate of
#: KL(reference || policy). `lengths/preferred` has the tokens of the response with the higher reward, or the mean of
#: both if rewards are equal; its distance to the mean of the other two is the length that the policy prefers.
METRICS = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "logits/chosen",
    "logits/rejected",
    "logps/chosen_per_token",
    "logratios/chosen_per_token",
    "kl/responses",
    "lengths/chosen",
    "lengths/rejected",
    "lengths/preferred",
)
#: All columns of a table of pairs.
COLUMNS = (*METRICS, "reference_logps/chosen", "reference_logps/rejected")

#: Arrays of the history of pairs, by their names in a checkpoint.
_HISTORY = ("pair_steps", "pair_rows", "pair_table")

_NO_ROW = torch.iinfo(torch.int64).max


def pair_table(
    losses: Tensor,
    chosen_rewards: Tensor,
    rejected_rewards: Tensor,
    scores: PairScores,
    reference_logps: tuple[Tensor, Tensor],
    tokens: tuple[Tensor, Tensor],
) -> Tensor:
    """Return the `COLUMNS` of each pair, (B, len(COLUMNS)) float32, without a graph.

    Args:
        losses: this and the other arguments: (B,) each.
        chosen_rewards: of the chosen responses.
        rejected_rewards: of the rejected ones.
        scores: of the policy.
        reference_logps: of chosen and rejected responses.
        tokens: of chosen and rejected responses.
    """
    chosen_tokens, rejected_tokens = tokens
    chosen_logratios = scores.chosen_logps - reference_logps[0]
    rejected_logratios = scores.rejected_logps - reference_logps[1]
    difference = (chosen_tokens - rejected_tokens) * torch.sign(chosen_rewards - rejected_rewards)
    columns = (
        losses,
        chosen_rewards,
        rejected_rewards,
        chosen_rewards > rejected_rewards,
        chosen_rewards - rejected_rewards,
        *scores[:4],
        scores.chosen_logps / chosen_tokens,
        chosen_logratios / chosen_tokens,
        -(chosen_logratios + rejected_logratios) / 2,
        chosen_tokens,
        rejected_tokens,
        (chosen_tokens + rejected_tokens + difference) / 2,
        *reference_logps,
    )
    return torch.stack([column.detach().float() for column in columns], dim=1)


def by_name(values: Iterable[T], prefix: str = "") -> dict[str, T]:
    """Return values of the first columns of a table of pairs, one per column, by the names in `METRICS`."""
    return {f"{prefix}{name}": value for name, value in zip(METRICS, values, strict=False)}


def evaluation_loss(metrics: Mapping[str, float]) -> float:
    """Return the loss of an evaluation, the objective of a hyperparameter search.

    The default of transformers would add up all metrics, log-probabilities too.

    Raises:
        UsageError: there are several evaluation sets.
    """
    if "eval_loss" not in metrics:
        raise UsageError(
            "a hyperparameter search over several evaluation sets has no default objective.\n"
            '  Choose one: compute_objective=lambda metrics: metrics["eval_NAME_loss"].'
        )
    return metrics["eval_loss"]


class PairMetrics:
    """Collects the metrics of the pairs that are trained on.

    Args:
        accelerator: of the processes that train together.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self.clear()

    def clear(self) -> None:
        """Forget all pairs."""
        self._sums: Tensor | None = None
        self._first_bad_row: Tensor | None = None
        self._recent: list[tuple[int, Tensor, Tensor]] = []  # step, rows and table of each batch since the last log
        self._history: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # steps, rows and table of each log

    @property
    def is_empty(self) -> bool:
        """Return True if there are no pairs since the last log."""
        return self._sums is None

    def add(self, table: Tensor, weights: Tensor, batch: Batch, step: int, router_loss: Tensor | None = None) -> None:
        """Add the pairs of a batch.

        Args:
            table: their (B, len(COLUMNS)) table.
            weights: (B,), 0 for pairs that do not count.
            batch: the batch.
            step: the optimizer step that they are part of, from 1.
            router_loss: of the batch, for a mixture of experts that outputs one.
        """
        losses = table[:, METRICS.index("loss")]
        rows = torch.zeros_like(losses, dtype=torch.int64) if batch.row is None else batch.row
        first_bad = torch.where(torch.isfinite(losses), _NO_ROW, rows).min()
        previous = self._first_bad_row
        self._first_bad_row = first_bad if previous is None else torch.minimum(previous, first_bad)
        if batch.row is not None:
            counted = rows if batch.weight is None else rows.where(batch.weight > 0, -1)
            self._recent.append((step, counted, table))
        router = torch.zeros_like(losses) if router_loss is None else router_loss.detach().float().expand_as(losses)
        sums = torch.cat([table, router[:, None], torch.ones_like(table[:, :1])], dim=1).T @ weights
        self._sums = sums if self._sums is None else self._sums + sums

    def first_non_finite_row(self) -> int | None:
        """Return the row of a pair whose loss is NaN or infinite since the last call; None if there is none.

        Waits for the device, so it is called once per step.
        """
        row = None if self._first_bad_row is None else int(self._first_bad_row)
        self._first_bad_row = None
        return None if row == _NO_ROW else row

    def reduce(self, *, aux_loss: bool = False) -> dict[str, float]:
        """Return the mean metrics of all pairs since the last call, over all ranks; every rank must call it.

        Args:
            aux_loss: return the mean router loss too.
        """
        *sums, router, pairs = self._accelerator.reduce(self._sums, "sum").tolist()
        self._sums = None
        self._move_to_history()
        return by_name([value / pairs for value in sums]) | ({"aux_loss": router / pairs} if aux_loss else {})

    def history(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the metrics of all pairs since training began, oldest first; every rank must call it.

        Returns: steps (n,), rows of the training set (n,), and the (n, len(COLUMNS)) table; a pair that was trained on
            twice appears twice.
        """
        self._move_to_history()
        parts = self._history
        if self._accelerator.num_processes > 1:
            parts = gather_object(parts)
        if not parts:
            return np.empty(0, int), np.empty(0, int), np.empty((0, len(COLUMNS)))
        steps, rows, table = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(steps, kind="stable")
        order = order[rows[order] >= 0]
        return steps[order], rows[order], table[order]

    def state(self) -> dict[str, Any]:
        """Return the sums since the last log and this process's share of the history, to be saved in a checkpoint."""
        self._move_to_history()
        history = dict(zip(_HISTORY, map(np.concatenate, zip(*self._history, strict=True)), strict=False))
        return {"sums": None if self._sums is None else self._sums.tolist(), **history}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned; start anew if it is empty.

        Other columns, of an earlier version, are left out.
        """
        self.clear()
        sums = state.get("sums")
        if sums is not None and len(sums) == len(COLUMNS) + 2:
            self._sums = torch.tensor(sums, device=self._accelerator.device)
        if _HISTORY[-1] in state and state[_HISTORY[-1]].shape[1] == len(COLUMNS):
            steps, rows, table = (state[name] for name in _HISTORY)
            self._history.append((steps, rows, table))

    def _move_to_history(self) -> None:
        """Move the batches since the last log to arrays in main memory."""
        if self._recent:
            steps = np.concatenate([np.full(len(rows), step) for step, rows, _ in self._recent])
            rows = torch.cat([rows for _, rows, _ in self._recent]).cpu().numpy()
            table = torch.cat([table for *_, table in self._recent]).cpu().numpy()
            self._history.append((steps, rows, table))
            self._recent = []
