"""An LSTM in mixed precision is the one in full precision, on every processor."""

import pytest
import torch
from torch import nn

from hardattn.recurrent import lstm


@pytest.mark.parametrize("given", [False, True], ids=["from nothing", "from a state"])
def test_mixed_precision_changes_nothing_but_the_rounding_of_what_comes_in(given):
    torch.manual_seed(0)
    layer, x = nn.LSTM(3, 4), torch.rand(5, 2, 3).bfloat16()
    state = (torch.rand(1, 2, 4).bfloat16(), torch.rand(1, 2, 4).bfloat16()) if given else None
    expected, (h, c) = layer(x.float(), tuple(part.float() for part in state) if state else None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, last = lstm(layer, x, state)
    for one, other in zip((found, *last), (expected, h, c)):
        assert one.dtype == torch.float32 and torch.equal(one, other)
    found.sum().backward()
    assert layer.weight_hh_l0.grad.any()
