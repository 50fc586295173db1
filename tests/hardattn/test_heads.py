"""The compiled heads must agree with the equations as tensors, forward and backward, also where a softmax or a clip is at its end."""

import pytest
import torch

from hardattn import heads
from hardattn.heads import numbers, turn, use

SIZES = [(1, 2, 7, 4, 1), (3, 2, 6, 3, 2), (2, 3, 5, 2, 0), (1, 1, 1, 1, 0)]


def case(sizes, scale=2.0, dtype=torch.float64):
    h, b, n, m, r = sizes
    g = torch.Generator().manual_seed(0)
    said = scale * torch.randn(b, numbers(h, m, r), generator=g, dtype=dtype)
    said[0, 0], said[0, m], said[0, -1] = 25.0, -21.0, 22.0  # beyond the bound
    memory = torch.randn(b, m, n, generator=g, dtype=dtype)
    w = torch.randn(2 * h, b, n, generator=g, dtype=dtype).softmax(-1)
    return [x.requires_grad_() for x in (said, memory, w)]


def outcome(inputs):
    said, memory, w_before = inputs
    w = turn(said, memory, w_before)
    reads, after = use(said, memory, w)
    g = torch.Generator().manual_seed(1)
    total = sum((x * torch.randn(x.shape, generator=g, dtype=torch.float64).to(x.dtype)).sum() for x in (w, reads, after))
    return [w, reads, after, *torch.autograd.grad(total, inputs)]


@pytest.mark.parametrize("sizes", SIZES)
def test_compiled_heads_are_the_equations(sizes, monkeypatch):
    inputs = case(sizes)
    compiled = outcome(inputs)
    monkeypatch.setattr(heads, "compiles", lambda x: False)
    for found, expected in zip(compiled, outcome(inputs)):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("compiles", [True, False])
@pytest.mark.parametrize("scale", [0.0, 1e6])
@pytest.mark.parametrize("content", [0.0, 1e-6, 1e6])
def test_no_finite_number_makes_a_nan(scale, content, compiles, monkeypatch):
    monkeypatch.setattr(heads, "compiles", lambda x: compiles)
    said, memory, w = (x.detach() for x in case(SIZES[1], scale, torch.float32))
    one_hot = torch.zeros_like(w)
    one_hot[..., 0] = 1
    inputs = [x.requires_grad_() for x in (said, torch.full_like(memory, content), one_hot)]
    assert all(x.isfinite().all() for x in outcome(inputs))


def test_what_is_not_a_number_does_not_pass_unnoticed():
    said, memory, w = case(SIZES[0])
    with torch.no_grad():
        memory[0, 0, 0] = torch.nan
    assert turn(said, memory, w)[:, 0].isnan().any() and not turn(said, memory, w)[:, 1].isnan().any()
