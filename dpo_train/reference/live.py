"""References that compute log-probabilities when they are needed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dpo_data.errors import UsageError
from dpo_train.batches.batch import Batch
from dpo_train.sharding import is_sharded

#: What is asked of a model about a batch: log-probabilities, in a shape that reference and policy have in common.
Forward = Callable[[nn.Module, Batch], Any]


class Reference(Protocol):
    """A reference."""

    @property
    def description(self) -> str:
        """What it is, for the user."""

    def logps(self, forward: Forward, batch: Batch) -> Any:
        """What `forward` finds with the reference's model, float32 and without a graph."""

    def generate(self, **inputs: Any) -> Tensor:
        """Token ids as the reference model's own `generate` gives them."""


@dataclass(frozen=True)
class NoReference:
    """For losses that compare with no reference: every log-probability is 0."""

    description: str = "none"

    def logps(self, forward: Forward, batch: Batch) -> Any:
        """Zeros, for chosen and for rejected responses, (B,) each."""
        pairs = batch["chosen" if "segments" in batch else "chosen_input_ids"]
        zeros = torch.zeros(len(pairs), device=pairs.device)
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

    def logps(self, forward: Forward, batch: Batch) -> Any:
        """One forward pass of the reference model."""
        with torch.no_grad():
            return forward(self.model, batch)

    def generate(self, **inputs: Any) -> Tensor:
        """The model's own."""
        ids: Tensor = self.model.generate(**inputs)  # type: ignore[operator]
        return ids


@dataclass(frozen=True)
class DisabledAdapter:
    """The policy itself with its adapter switched off."""

    policy: Any
    description: str = "the model under the adapter"

    def logps(self, forward: Forward, batch: Batch) -> Any:
        """One forward pass of the policy without its adapter, dropout off."""
        with torch.no_grad(), evaluating(self.policy), self.policy.disable_adapter():
            return forward(self.policy, batch)

    def generate(self, **inputs: Any) -> Tensor:
        """The policy's own, without its adapter."""
        with self.policy.disable_adapter():
            ids: Tensor = self.policy.generate(**inputs)
        return ids


@dataclass(frozen=True)
class InitialPolicy:
    """The policy itself, which is its own reference until it takes a step.

    Args:
        policy: the model.
        trained: whether it has taken one.
    """

    policy: Any
    trained: Callable[[], bool]
    description: str = "the policy before its first step"

    def logps(self, forward: Forward, batch: Batch) -> Any:
        """One forward pass of the policy, dropout off.

        Raises:
            UsageError: it has been trained, so that the reference is gone.
        """
        self._require_untrained("responses that were not among the data when training began")
        with torch.no_grad(), evaluating(self.policy):
            return forward(self.policy, batch)

    def generate(self, **inputs: Any) -> Tensor:
        """The policy's own.

        Raises:
            UsageError: as `logps`.
        """
        self._require_untrained("texts of the reference")
        ids: Tensor = self.policy.generate(**inputs)
        return ids

    def _require_untrained(self, wanted: str) -> None:
        if self.trained():
            raise UsageError(
                "the reference was the policy before training, of which no copy is kept: it has nothing to say on "
                f"{wanted}.\n  Give the data set as eval_dataset, pass a ref_model, or set precompute_reference=False."
            )


@dataclass
class ModelOnDemand:
    """A reference model that is loaded when it is asked, and can be let go again.

    Args:
        path: of the model.
        load: loads it, ready to be asked.
    """

    path: str
    load: Callable[[], Any]
    _model: Any = None

    @property
    def description(self) -> str:
        """The path."""
        return self.path

    @property
    def model(self) -> Any:
        """The model, loaded at the first time."""
        if self._model is None:
            self._model = self.load()
        return self._model

    def release(self) -> None:
        """Let the model go; asked again, it is loaded again."""
        self._model = None

    def logps(self, forward: Forward, batch: Batch) -> Any:
        """One forward pass of the model."""
        with torch.no_grad():
            return forward(self.model, batch)

    def generate(self, **inputs: Any) -> Tensor:
        """The model's own."""
        ids: Tensor = self.model.generate(**inputs)
        return ids


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode, and back in its own afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


class FunctionalModel(nn.Module):
    """A model that computes with other weights than its own, for some of its parameters."""

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self._model = [model]  # in a list: its parameters are not ours
        self._weights = weights

    @property
    def policy(self) -> nn.Module:
        """The model with its own weights."""
        return self._model[0]

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
        return DisabledAdapter(policy)
    trained = {name: tensor.detach().clone() for name, tensor in policy.named_parameters() if tensor.requires_grad}
    return FrozenModel(FunctionalModel(policy, trained), "the adapter as it was loaded")


def frozen(model: nn.Module) -> nn.Module:
    """The model itself, in evaluation mode and taking no gradients from now on."""
    return model.eval().requires_grad_(False)


def adapter_changes_nothing(policy: Any) -> bool:
    """Whether a model gives the same with its adapter on and off, as before the adapter's first training step."""
    ids = torch.arange(8, device=policy.device)[None] % policy.get_input_embeddings().num_embeddings
    training = policy.training
    policy.eval()
    with torch.no_grad():
        on = policy(input_ids=ids).logits[:, -ids.shape[1] :]  # learned prompts come before
        with policy.disable_adapter():
            off = policy(input_ids=ids).logits
    policy.train(training)
    return torch.allclose(on, off, rtol=1e-4, atol=1e-5)
