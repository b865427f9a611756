"""Where the reference's log-probabilities come from. Knows no loss and no files."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.fsdp._flat_param import FlatParameter
from torch.distributed.tensor import DTensor

from dpo_data.errors import UsageError
from dpo_train.batching import Batch

#: A model and a batch to the log-probabilities of the chosen and of the rejected responses, both (B,).
Forward = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]


class Reference(Protocol):
    """A reference."""

    @property
    def description(self) -> str:
        """What it is, for the user."""

    def logps(self, forward: Forward, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the chosen and the rejected responses, (B,) float32 each, without a graph."""

    def generate(self, **inputs: Any) -> Tensor:
        """Token ids as the reference model's own `generate` gives them."""


@dataclass(frozen=True)
class NoReference:
    """For losses that compare with no reference: every log-probability is 0."""

    description: str = "none"

    def logps(self, forward: Forward, batch: Batch) -> tuple[Tensor, Tensor]:
        """Zeros."""
        zeros = torch.zeros(len(batch["chosen_input_ids"]), device=batch["chosen_input_ids"].device)
        return zeros, zeros

    def generate(self, **inputs: Any) -> Tensor:
        """Nothing new: the prompts."""
        prompts: Tensor = inputs["input_ids"]
        return prompts


@dataclass(frozen=True)
class FrozenModel:
    """A reference model that is kept beside the policy and asked in every step."""

    model: nn.Module
    description: str = "a model of its own"

    def logps(self, forward: Forward, batch: Batch) -> tuple[Tensor, Tensor]:
        """One forward pass of the reference model."""
        with torch.no_grad():
            return forward(self.model, batch)

    def generate(self, **inputs: Any) -> Tensor:
        """The model's own."""
        ids: Tensor = self.model.generate(**inputs)  # type: ignore[operator]
        return ids


@dataclass(frozen=True)
class AdapterOff:
    """The policy itself with its adapter switched off."""

    policy: Any
    description: str = "the model under the adapter"

    def logps(self, forward: Forward, batch: Batch) -> tuple[Tensor, Tensor]:
        """One forward pass of the policy without its adapter, dropout off."""
        training = self.policy.training
        self.policy.eval()
        with torch.no_grad(), self.policy.disable_adapter():
            logps = forward(self.policy, batch)
        self.policy.train(training)
        return logps

    def generate(self, **inputs: Any) -> Tensor:
        """The policy's own, without its adapter."""
        with self.policy.disable_adapter():
            ids: Tensor = self.policy.generate(**inputs)
        return ids


class WithWeights(nn.Module):
    """A model that computes with other weights than its own, for some of its parameters."""

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self._model = [model]  # in a list: its parameters are not ours
        self._weights = weights

    def forward(self, **inputs: Any) -> Any:
        """The model's forward pass with these weights."""
        return torch.func.functional_call(self._model[0], self._weights, kwargs=inputs)


def own_reference(policy: Any) -> Reference:
    """The policy as it is now: what a run without a reference model compares with.

    A new adapter changes nothing yet, so that switching it off gives the same; one that was trained before is copied.

    Raises:
        UsageError: the policy is sharded, which cannot be copied.
    """
    if is_sharded(policy):
        raise UsageError(
            "the model is sharded over several processes, so that no frozen copy of it can be made.\n"
            "  Give the reference too: load it in the same way and pass it as ref_model."
        )
    if not hasattr(policy, "disable_adapter"):
        return FrozenModel(frozen(deepcopy(policy)), "a frozen copy of the policy")
    if adapter_changes_nothing(policy):
        return AdapterOff(policy)
    trained = {name: tensor.detach().clone() for name, tensor in policy.named_parameters() if tensor.requires_grad}
    return FrozenModel(WithWeights(policy, trained), "the adapter as it was loaded")


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds only a part of every parameter (FSDP)."""
    return any(isinstance(tensor, DTensor | FlatParameter) for tensor in model.parameters())


def frozen(model: nn.Module) -> nn.Module:
    """The model itself, in evaluation mode and taking no gradients from now on."""
    return model.eval().requires_grad_(False)


def adapter_changes_nothing(policy: Any) -> bool:
    """Whether a model gives the same with its adapter on and off, as before the adapter's first training step."""
    ids = torch.arange(8, device=policy.device)[None] % policy.get_input_embeddings().num_embeddings
    training = policy.training
    policy.eval()
    with torch.no_grad():
        on = policy(input_ids=ids).logits
        with policy.disable_adapter():
            off = policy(input_ids=ids).logits
    policy.train(training)
    return torch.allclose(on, off, rtol=1e-4, atol=1e-5)
