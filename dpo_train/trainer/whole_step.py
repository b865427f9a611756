"""Losses over several pairs, computed over all pairs of an optimizer step, on all ranks and in all micro-batches."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from dpo_train.batches.batch import Batch
from dpo_train.objective import Objective
from dpo_train.trainer.metrics import COLUMNS

_LOGPS = [COLUMNS.index(f"{name}/{side}") for name in ("logps", "reference_logps") for side in ("chosen", "rejected")]


class WholeStep:
    """The losses of an optimizer step and their gradients with respect to the log-probabilities of its pairs.

    They are computed from the log-probabilities of a pass without a graph. Each micro-batch then receives, for its
    pairs, the values with these gradients.

    Args:
        objective: the losses.
        loss: `DPOTrainer.dpo_loss`.
        accelerator: of the processes that train together.
    """

    def __init__(self, objective: Objective, loss: Callable[..., tuple[Tensor, ...]], accelerator: Accelerator) -> None:
        self.objective = objective
        self._loss = loss
        self._accelerator = accelerator
        self._names: tuple[str, ...] = ()
        self._micro_batches: deque[Tensor] = deque()
        self._sum, self._count = 0.0, 0  # of log-ratios over all steps

    def inputs(self, table: Tensor, batch: Batch) -> Tensor:
        """Return the numbers that the losses of a batch are computed from, (B, inputs), from its table of pairs."""
        terms = batch.terms(self.objective.terms)
        self._names = tuple(terms)
        return torch.cat([table[:, _LOGPS], *(term[:, None].float() for term in terms.values())], dim=1).detach()

    def losses(self, inputs: Tensor) -> Tensor:
        """Return the losses of pairs that are all that there are, (N,)."""
        mean = {}
        if "mean_logratios" in self.objective.inputs and self._count:
            mean["mean_logratios"] = inputs.new_full((len(inputs),), self._sum / self._count)
        return self._loss(*inputs[:, :4].unbind(1), **dict(zip(self._names, inputs[:, 4:].T, strict=True)), **mean)[0]

    def begin_with(
        self, model: Any, batches: Iterable[Batch], measure: Callable[[Any, Batch], tuple[Any, ...]]
    ) -> None:
        """Compute the losses of a step without a graph, unless its only micro-batch will do so.

        Args:
            model: the policy as it is wrapped for training.
            batches: the micro-batches of this rank.
            measure: returns the table of pairs of a batch as its second result.
        """
        batches = list(batches)
        if len(batches) > 1 or self._accelerator.num_processes > 1:
            model.train()
            with torch.no_grad():
                self.begin([(self.inputs(measure(model, batch)[1], batch), batch.weight) for batch in batches])

    def begin(self, micro_batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Compute the losses of a step; every rank must call it.

        Args:
            micro_batches: the inputs, (B, inputs), and weights, (B,), of each micro-batch of this rank.
        """
        own = torch.cat([inputs for inputs, _ in micro_batches])
        counted = torch.cat([_counted(inputs, weight) for inputs, weight in micro_batches])
        ranks = [own[counted]]
        if self._accelerator.num_processes > 1:
            ranks = [inputs.to(own.device) for inputs in gather_object([own[counted].cpu()])]
        with torch.enable_grad():
            step = torch.cat(ranks).requires_grad_()
            logratios = step[:, :2].detach() - step[:, 2:4].detach()
            self._sum, self._count = self._sum + float(logratios.double().sum()), self._count + logratios.numel()
            losses = self.losses(step)
            (gradients,) = torch.autograd.grad(losses.sum(), step)
        results = torch.cat([losses.detach()[:, None], gradients[:, :2]], dim=1)
        first = sum(len(inputs) for inputs in ranks[: self._accelerator.process_index])
        own_results = own.new_zeros(len(own), results.shape[1])
        own_results[counted] = results[first : first + int(counted.sum())]
        self._micro_batches = deque(torch.split(own_results, [len(inputs) for inputs, _ in micro_batches]))

    def next_losses(self, table: Tensor, logps: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        """Return the losses of the next micro-batch, (B,), with their gradients in the whole step.

        Args:
            table: its table of pairs.
            logps: log-probabilities of chosen and rejected responses under the policy, (B,) each, with their graph.
            batch: the micro-batch, which is the whole step if the step was not begun.
        """
        if not self._micro_batches:
            self.begin([(self.inputs(table, batch), batch.weight)])
        losses, *gradients = self._micro_batches.popleft().unbind(1)
        for each, gradient in zip(logps, gradients, strict=True):
            losses = losses + gradient * (each - each.detach())
        return losses

    def state(self) -> dict[str, Any]:
        """Return the state that a checkpoint needs."""
        return {"logratios": [self._sum, self._count]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned; start anew if it is empty."""
        self._sum, self._count = state.get("logratios", (0.0, 0))
        self._micro_batches.clear()


def _counted(inputs: Tensor, weight: Tensor | None) -> Tensor:
    return torch.ones(len(inputs), dtype=torch.bool, device=inputs.device) if weight is None else weight > 0
