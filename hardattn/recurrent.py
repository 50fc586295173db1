"""An LSTM over whole sequences, in any precision."""

from typing import Any

import torch
from torch import Tensor, nn


def lstm(layer: nn.Module, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """`layer(x, state)`, in mixed precision at the precision of its weights: many processors have no LSTM in 16 bits."""
    if not torch.is_autocast_enabled("cpu"):
        return layer(x, state)
    dtype = next(layer.parameters()).dtype
    with torch.autocast("cpu", enabled=False):
        return layer(x.to(dtype), None if state is None else tuple(part.to(dtype) for part in state))
