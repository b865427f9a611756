"""Sharded parameters (FSDP2)."""

from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp._flat_param import FlatParameter
from torch.distributed.tensor import DTensor

from dpo_data.errors import UsageError


def is_sharded(model: nn.Module) -> bool:
    """Return True if each process holds only a shard of every parameter (FSDP)."""
    return any(isinstance(tensor, DTensor | FlatParameter) for tensor in model.parameters())


def require_sharding(args: Any, model: nn.Module) -> None:
    """Raise UsageError if training arguments request FSDP and it is not active."""
    if args.fsdp and not is_sharded(model):
        raise UsageError(
            "fsdp was requested and is not active: every process would hold the whole model.\n"
            "  On CPU, load the model with distributed_config=DistributedConfig(fsdp_size=...) and leave out fsdp."
        )


def common_passes(passes: int, model: nn.Module, accelerator: Any) -> int:
    """Return how many forward passes this process makes: as many as any other if the model is sharded."""
    if not is_sharded(model):
        return passes
    return int(accelerator.gather(torch.tensor([passes], device=accelerator.device)).max())


def reshard(model: nn.Module) -> None:
    """Free the gathered parameters that a forward pass without a backward pass leaves in a sharded model.

    An optimizer that is created while they exist would train the gathered copies.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
