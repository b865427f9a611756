"""A reference that follows the policy (TR-DPO): at intervals, its weights move toward the policy's."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from dpo_data.errors import UsageError
from dpo_train.config import DPOConfig
from dpo_train.reference.live import FrozenModel, LiveReference, ModelOnDemand, Reference
from dpo_train.sharding import is_sharded

#: File of a checkpoint with the weights of the reference.
REFERENCE_WEIGHTS = "reference.safetensors"


class ReferenceSync(TrainerCallback):  # type: ignore[misc]
    """Every `steps` optimizer steps, the reference becomes alpha policy + (1 - alpha) reference, weight by weight.

    Checkpoints hold the weights of the reference, so that a resumed run continues with the same one.

    Args:
        reference: the reference model, with weights of its own.
        alpha: share of the policy, in (0, 1].
        steps: optimizer steps between two moves.

    Source: Gorbatovski et al. 2024 (TR-DPO), arXiv:2404.09656, the soft update; the hard update with alpha 1.
    """

    def __init__(self, reference: nn.Module, alpha: float, steps: int) -> None:
        self.reference = reference
        self.alpha = alpha
        self.steps = steps

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the reference if its turn has come."""
        if state.global_step % self.steps:
            return
        policy = dict(kwargs["model"].named_parameters())
        with torch.no_grad():
            for name, weight in self.reference.named_parameters():
                weight.lerp_(policy[name].detach().to(weight), self.alpha)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the reference to the checkpoint that was just saved."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            weights = {name: weight.contiguous() for name, weight in self.reference.named_parameters()}
            save_file(weights, folder / REFERENCE_WEIGHTS)

    def load(self, checkpoint: Path) -> None:
        """Continue with the reference of a checkpoint.

        Raises: UsageError: the checkpoint has none.
        """
        file = checkpoint / REFERENCE_WEIGHTS
        if not file.exists():
            raise UsageError(
                f"{checkpoint}: has no {REFERENCE_WEIGHTS}, the reference that sync_ref_model changed.\n"
                "  Resume from a checkpoint of a run with sync_ref_model, or start from the beginning."
            )
        self.reference.load_state_dict(load_file(file), strict=False)


def make_reference_sync(reference: Reference, policy: Any, args: DPOConfig) -> ReferenceSync:
    """Return the callback that moves a reference toward the policy.

    Raises: UsageError: the reference has no weights of its own that could move, or not those of the policy.
    """
    model = reference.model if isinstance(reference, LiveReference) else None
    network = model.network if isinstance(model, FrozenModel | ModelOnDemand) else None
    if network is None or is_sharded(policy) or hasattr(policy, "disable_adapter"):
        raise UsageError(
            "sync_ref_model mixes the weights of policy and reference, which needs both as whole models: "
            "no adapter, and not sharded over processes."
        )
    shapes = {name: weight.shape for name, weight in policy.named_parameters()}
    if shapes != {name: weight.shape for name, weight in network.named_parameters()}:
        raise UsageError("sync_ref_model needs a reference of the policy's architecture; the shapes of weights differ.")
    return ReferenceSync(network, args.ref_model_mixup_alpha, args.ref_model_sync_steps)
