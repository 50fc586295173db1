"""Addressing must be the paper's equations, by hand-worked numbers and by identities."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardattn.addressing import address, content, gate, read, sharpen, shift, write

D = torch.float64


def weighting(*shape, seed=0):
    return torch.rand(*shape, dtype=D, generator=torch.Generator().manual_seed(seed)).softmax(-1)


def test_content_by_hand():
    """Cosines 1, 0 and -1 at beta = log 2: weights 2, 1 and 1/2, divided by their sum."""
    memory = torch.tensor([[[3.0, 0.0], [0.0, 0.1], [-5.0, 0.0]]], dtype=D)
    found = content(torch.tensor([[2.0, 0.0]], dtype=D), memory, torch.tensor([math.log(2)], dtype=D))
    torch.testing.assert_close(found, torch.tensor([[2.0, 1.0, 0.5]], dtype=D) / 3.5)


def test_a_key_like_every_row_reads_the_mean():
    row = torch.randn(1, 1, 4, dtype=D)
    memory = row * torch.tensor([1.0, 2.0, 3.0], dtype=D)[:, None]
    w = content(row[0], memory, torch.tensor([7.0], dtype=D))
    torch.testing.assert_close(read(memory, w), memory.mean(1))


def test_shift_by_hand():
    """The example of Section 3.3.2: a shift of 6.7 rows is 0.3 of 6 and 0.7 of 7; here 0.7 of one row, which blurs a focus."""
    w = torch.tensor([[0.0, 1.0, 0.0, 0.0]], dtype=D)
    s = torch.tensor([[0.1, 0.2, 0.7]], dtype=D)
    torch.testing.assert_close(shift(w, s), torch.tensor([[0.1, 0.2, 0.7, 0.0]], dtype=D))


@given(st.integers(1, 9), st.integers(1, 20), st.integers(0, 99))
def test_a_one_hot_shift_is_a_roll(n, k, seed):
    """Also of an even number, which has a row more down than up, and farther than around."""
    w = weighting(2, 3, n, seed=seed)
    for i in range(k):
        s = torch.zeros(2, 3, k, dtype=D)
        s[..., i] = 1.0
        torch.testing.assert_close(shift(w, s), w.roll(i - k // 2, -1), rtol=0, atol=0)


@given(st.integers(1, 9), st.integers(1, 20), st.integers(0, 99))
def test_a_shift_is_the_sum_of_its_rolls(n, k, seed):
    w, s = weighting(2, 3, n, seed=seed), weighting(2, 3, k, seed=seed + 1)
    rolled = [w.roll(i - k // 2, -1) * s[..., i : i + 1] for i in range(k)]
    torch.testing.assert_close(shift(w, s), sum(rolled))


def test_sharpen_by_hand_and_its_limits():
    w = torch.tensor([[0.5, 0.25, 0.25]], dtype=D)
    torch.testing.assert_close(sharpen(w, torch.tensor([2.0], dtype=D)), torch.tensor([[4.0, 1.0, 1.0]], dtype=D) / 6)
    torch.testing.assert_close(sharpen(w, torch.ones(1, dtype=D)), w)
    torch.testing.assert_close(sharpen(w, torch.tensor([1e4], dtype=D)), torch.tensor([[1.0, 0.0, 0.0]], dtype=D))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [1.0, 50.0, 1e6])
def test_nothing_becomes_nan(dtype, gamma):
    """Zero keys, zero rows, one-hot and almost flat weightings, at any sharpness; and their gradients."""
    k, memory = torch.zeros(2, 1, 3, dtype=dtype, requires_grad=True), torch.zeros(1, 5, 3, dtype=dtype, requires_grad=True)
    before = torch.tensor([[[1.0, 0, 0, 0, 0]], [[0.2] * 5]], dtype=dtype, requires_grad=True)
    one = torch.ones(2, 1, dtype=dtype)
    s = torch.tensor([0.0, 1.0, 0.0], dtype=dtype).expand(2, 1, 3)
    for g in (0.0, 1.0):
        w = address(memory, before, k=k, beta=1e6 * one, g=g * one, s=s, gamma=gamma * one)
        assert w.isfinite().all()
        torch.testing.assert_close(w.sum(-1), torch.ones(2, 1, dtype=dtype))
        for gradient in torch.autograd.grad((w * torch.arange(5)).sum(), (k, memory, before), allow_unused=True):
            assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_however_sharp_the_largest_wins(dtype):
    """At the largest number there is; weightings that are alike stay so."""
    most = torch.tensor([torch.finfo(dtype).max], dtype=dtype)
    one, flat = torch.tensor([[0.5, 0.3, 0.2]], dtype=dtype), torch.full((1, 128), 1 / 128, dtype=dtype)
    torch.testing.assert_close(sharpen(one, most), torch.tensor([[1.0, 0.0, 0.0]], dtype=dtype))
    torch.testing.assert_close(sharpen(flat, most), flat)
    memory = torch.eye(3, dtype=dtype)[None]
    torch.testing.assert_close(content(memory[0, 1:2], memory, most), torch.tensor([[0.0, 1.0, 0.0]], dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gate_and_read_by_hand(dtype):
    new, old = torch.tensor([[0.5, 0.25, 0.25]], dtype=dtype), torch.tensor([[0.0, 1.0, 0.0]], dtype=dtype)
    w = gate(new, old, torch.tensor([0.25], dtype=dtype))
    torch.testing.assert_close(w, torch.tensor([[0.125, 0.8125, 0.0625]], dtype=dtype))
    memory = torch.tensor([[[8.0, 0.0], [0.0, 16.0], [16.0, 32.0]]], dtype=dtype)
    torch.testing.assert_close(read(memory, w), torch.tensor([[2.0, 15.0]], dtype=dtype))


def test_gate_keeps_or_replaces():
    new, old = weighting(1, 4, seed=1), weighting(1, 4, seed=2)
    assert torch.equal(gate(new, old, torch.zeros(1, dtype=D)), old)
    torch.testing.assert_close(gate(new, old, torch.ones(1, dtype=D)), new)


def test_write_by_hand():
    memory = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=D)
    w = torch.tensor([[1.0, 0.5]], dtype=D)
    e, a = torch.tensor([[1.0, 0.0]], dtype=D), torch.tensor([[10.0, 20.0]], dtype=D)
    torch.testing.assert_close(write(memory, w, e, a), torch.tensor([[[10.0, 22.0], [6.5, 14.0]]], dtype=D))


def test_a_focused_write_that_erases_everything_is_read_back():
    memory, a = torch.randn(3, 5, 4, dtype=D), torch.randn(3, 4, dtype=D)
    w = torch.eye(5, dtype=D)[[0, 4, 2]]
    written = write(memory, w, torch.ones(3, 4, dtype=D), a)
    torch.testing.assert_close(read(written, w), a)
    rest = (1 - w).bool()
    assert torch.equal(written[rest], memory[rest])


def test_heads_address_one_memory_and_their_order_does_not_matter():
    memory, w, e, a = torch.randn(2, 5, 3, dtype=D), weighting(4, 2, 5), weighting(4, 2, 3), torch.randn(4, 2, 3, dtype=D)
    torch.testing.assert_close(read(memory, w), torch.stack([read(memory, one) for one in w]))
    order = [2, 0, 3, 1]
    torch.testing.assert_close(write(memory, w, e, a), write(memory, w[order], e[order], a[order]))
    torch.testing.assert_close(write(memory, w[:1], e[:1], a[:1]), write(memory, w[0], e[0], a[0]))


def test_gradients():
    g = torch.Generator().manual_seed(0)
    shapes = {"k": (2, 2, 3), "beta": (2, 2), "g": (2, 2), "s": (2, 2, 3), "gamma": (2, 2)}
    parts = {name: (0.1 + torch.rand(shape, dtype=D, generator=g)).requires_grad_() for name, shape in shapes.items()}
    memory = torch.randn(2, 5, 3, dtype=D, generator=g, requires_grad=True)
    before = weighting(2, 2, 5).requires_grad_()

    def all_of_it(memory, before, *values):
        w = address(memory, before, **dict(zip(parts, values)))
        e, a = values[0].sigmoid(), values[0]
        return read(write(memory, w, e, a), w)

    assert torch.autograd.gradcheck(all_of_it, (memory, before, *parts.values()))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 8])
def test_the_gradient_of_each(k):
    """One by one, for shifts of several widths, beyond the memory's, too."""

    def some(*shape, seed):
        return (0.1 + torch.rand(*shape, dtype=D, generator=torch.Generator().manual_seed(seed))).requires_grad_()

    memory, key, strength = some(2, 5, 3, seed=0), some(2, 2, 3, seed=1), some(2, 2, seed=2)
    w, other, s = (weighting(2, 2, n, seed=n).requires_grad_() for n in (5, 6, k))
    assert torch.autograd.gradcheck(content, (key, memory, strength))
    assert torch.autograd.gradcheck(gate, (w, other[..., :5], strength))
    assert torch.autograd.gradcheck(shift, (w, s))
    assert torch.autograd.gradcheck(sharpen, (w, 1 + strength))
    assert torch.autograd.gradcheck(read, (memory, w))
    assert torch.autograd.gradcheck(write, (memory, w, key, some(2, 2, 3, seed=3)))
