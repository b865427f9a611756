"""Models that a reference is computed with, and the reference that computes its log-probabilities when needed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dpo_data.errors import UsageError
from dpo_train.batches.batch import Batch
from dpo_train.logprobs.scoring import Scorer
from dpo_train.models import evaluating


class ReferenceModel(Protocol):
    """A model to compare the policy with."""

    @property
    def description(self) -> str:
        """What the model is, for the user."""

    def active(self) -> AbstractContextManager[Any]:
        """Return a context with the model ready to compute, without gradients."""


class Reference(Protocol):
    """Provides the log-probabilities that the policy is compared with."""

    @property
    def description(self) -> str:
        """What the reference is, for the user."""

    def logps(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of chosen and rejected responses, (B,) each, float32 and without a graph."""

    def generate(self, **inputs: Any) -> Tensor:
        """Return token ids, like the `generate` method of transformers models."""


@dataclass(frozen=True)
class NoReference:
    """Reference for losses that need none: every log-probability is 0."""

    description: str = "none"

    def logps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return zeros, (B,) each."""
        device = batch.response_lengths("chosen").device
        return torch.zeros(batch.size, device=device), torch.zeros(batch.size, device=device)

    def generate(self, **inputs: Any) -> Tensor:
        """Return the prompts."""
        prompts: Tensor = inputs["input_ids"]
        return prompts


@dataclass(frozen=True)
class LiveReference:
    """Computes log-probabilities in every step.

    Args:
        model: the reference model.
        scorer: computes the log-probabilities.
    """

    model: ReferenceModel
    scorer: Scorer

    @property
    def description(self) -> str:
        """What the reference is, for the user."""
        return self.model.description

    def logps(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Run one forward pass of the reference model."""
        with self.model.active() as network:
            return self.scorer.logps(network, batch)

    def generate(self, **inputs: Any) -> Tensor:
        """Generate with the reference model."""
        return generate(self.model, **inputs)


def generate(model: ReferenceModel, **inputs: Any) -> Tensor:
    """Return the token ids that a reference model generates."""
    with model.active() as network:
        ids: Tensor = network.generate(**inputs)
        return ids


@dataclass(frozen=True)
class FrozenModel:
    """A reference model with separate weights."""

    network: nn.Module
    description: str = "a separate model"

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """Provide the model."""
        with torch.no_grad():
            yield self.network


@dataclass(frozen=True)
class DisabledAdapter:
    """The policy with its adapter disabled."""

    policy: Any
    description: str = "the model under the adapter"

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """Disable the adapter and dropout of the policy."""
        with torch.no_grad(), evaluating(self.policy), self.policy.disable_adapter():
            yield self.policy


@dataclass(frozen=True)
class AdapterCopy:
    """The policy with the values that its adapter had at first.

    Args:
        policy: the policy, which is being trained.
        weights: these values, by parameter name.
    """

    policy: Any
    weights: Mapping[str, Tensor]
    description: str = "the adapter as it was loaded"

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """Put the first values in the place of the trained ones, and disable dropout."""
        parameters = {name: weight for name, weight in self.policy.named_parameters() if name in self.weights}
        trained = {name: weight.data for name, weight in parameters.items()}
        try:
            for name, weight in parameters.items():
                weight.data = self.weights[name]
            with torch.no_grad(), evaluating(self.policy):
                yield self.policy
        finally:
            for name, weight in parameters.items():
                weight.data = trained[name]


@dataclass
class InitialPolicy:
    """The policy itself, which is its own reference until its first step.

    Attributes:
        policy: the model.
        started: whether training has begun.
    """

    policy: Any
    description: str = "the policy before its first step"
    started: bool = False

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """Disable dropout of the policy.

        Raises:
            UsageError: training has begun, and no copy of the initial policy was kept.
        """
        if self.started:
            raise UsageError(
                "no copy of the initial policy was kept, so reference log-probabilities for new responses cannot be "
                "computed any more.\n"
                "  Pass the dataset as eval_dataset, pass a ref_model, or set precompute_reference=False."
            )
        with torch.no_grad(), evaluating(self.policy):
            yield self.policy


@dataclass
class ModelOnDemand:
    """A reference model that is loaded when it is first needed, and can be released.

    Args:
        path: path or Hub id of the model, for descriptions.
        load: loads the model, ready to compute.
    """

    path: str
    load: Callable[[], Any]
    _network: Any = field(default=None, repr=False)

    @property
    def description(self) -> str:
        """The path."""
        return self.path

    @property
    def network(self) -> Any:
        """The model, loaded on first access."""
        if self._network is None:
            self._network = self.load()
        return self._network

    def release(self) -> None:
        """Free the model; it is loaded again when it is needed."""
        self._network = None

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """Provide the model."""
        with torch.no_grad():
            yield self.network


def own_network(reference: Reference) -> Any:
    """Return the model of a reference that has weights of its own, if it is loaded; else None."""
    model = getattr(reference, "model", None)
    if isinstance(model, FrozenModel):
        return model.network
    return model._network if isinstance(model, ModelOnDemand) else None
