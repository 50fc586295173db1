"""Tensors for loops that are compiled for the CPU, which take arrays."""

from typing import Any

import torch
from torch import Tensor


def compiles(x: Tensor) -> bool:
    """Whether compiled loops can take it: on the CPU, of 32 or 64 bits."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def arrays(*tensors: Tensor) -> Any:
    """Each as an array without gaps: the tensor's own memory, so that it can be filled, unless the tensor has gaps."""
    return (x.detach().contiguous().numpy() for x in tensors)
