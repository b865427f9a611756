"""Sharded parameters (FSDP2)."""

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp._flat_param import FlatParameter
from torch.distributed.tensor import DTensor


def is_sharded(model: nn.Module) -> bool:
    """Return True if each process holds only a shard of every parameter (FSDP)."""
    return any(isinstance(tensor, DTensor | FlatParameter) for tensor in model.parameters())


def reshard(model: nn.Module) -> None:
    """Free the gathered parameters that a forward pass without a backward pass leaves in a sharded model.

    An optimizer that is created while they exist would train the gathered copies.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
