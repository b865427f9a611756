"""Sharded parameters (FSDP2)."""

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp._flat_param import FlatParameter
from torch.distributed.tensor import DTensor


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds only a part of every parameter (FSDP)."""
    return any(isinstance(tensor, DTensor | FlatParameter) for tensor in model.parameters())


def reshard(model: nn.Module) -> None:
    """Give a sharded model its own parts back, which a forward pass without a backward leaves gathered.

    An optimizer that is made then would be given the gathered copies, and train them.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
