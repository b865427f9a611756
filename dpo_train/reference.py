"""Where the reference's log-probabilities come from. Knows no loss and no files."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpo_train.batching import Batch

#: A model and a batch to the log-probabilities of the chosen and of the rejected responses, both (B,).
Forward = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class FrozenModel:
    """A reference model that is kept beside the policy and asked in every step."""

    model: nn.Module

    def logps(self, forward: Forward, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the chosen and the rejected responses, (B,) float32 each, without a graph."""
        with torch.no_grad():
            return forward(self.model, batch)


def frozen(model: nn.Module) -> nn.Module:
    """The model itself, in evaluation mode and taking no gradients from now on."""
    return model.eval().requires_grad_(False)


def frozen_copy(model: nn.Module) -> nn.Module:
    """A frozen copy of a model as it is now."""
    return frozen(deepcopy(model))
