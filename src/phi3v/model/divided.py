"""Tensors of which each process holds a slice (DTensor), and whole ones; either passes through."""

from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(value: Any) -> Any:
    """A divided tensor put together, on every process; all of them have to call this.

    Args:
        value: What is no divided tensor comes back as it is.
    """
    return value.full_tensor() if isinstance(value, DTensor) else value


def on_cpu(value: Any) -> Any:
    """A divided tensor put together in the memory of the CPU; all processes have to call this.

    Args:
        value: What is no divided tensor comes back as it is, and where it is.
    """
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def divided_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor divided as a parameter is; as it is where the parameter is whole.

    Args:
        parameter: Says how, and on which device.
        value: The same one on every process: each takes its slice, and nothing is sent.
    """
    if not isinstance(parameter, DTensor):
        return value
    local = parameter.to_local()
    return distribute_tensor(
        value.to(local.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
