"""The hand-written backward pass must be autograd's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardattn.chain import Steps, Weights, differentiable

D = torch.float64
HIDDEN = Steps._fields.index("hidden") - Steps._fields.index("encoded")


def sizes_to_weights(p, a, b, g, d, gates=1):
    """`gates`: 4 for an LSTM."""
    shapes = ((a, p), (a,), (b, 2), (b,), (g, a + b), (g,), (gates * d, g), (gates * d,), (gates * d, d))
    return [(0.8 * torch.randn(shape, dtype=D)).requires_grad_() for shape in shapes]


def plain(seen, gaze, weights):
    """The same network as one would write it."""
    w = Weights(*weights)
    h = c = torch.zeros(seen.shape[1], w.recurrent.shape[1], dtype=D)
    rows = []
    for what, where in zip(seen, gaze):
        encoded = torch.cat([what @ w.what.T + w.what_bias, where @ w.where.T + w.where_bias], -1).relu()
        joined = (encoded @ w.join.T + w.join_bias).relu()
        core = joined @ w.input.T + w.input_bias + h @ w.recurrent.T
        if len(w.recurrent) == w.recurrent.shape[1]:
            gates, h, c = core[:, :0], core.relu(), core[:, :0]
        else:
            i, f, new, o = core.chunk(4, -1)
            gates = torch.cat([i.sigmoid(), f.sigmoid(), new.tanh(), o.sigmoid()], -1)
            c = f.sigmoid() * c + i.sigmoid() * new.tanh()
            h = o.sigmoid() * c.tanh()
        rows.append((encoded, joined, h, gates, c))
    return [torch.stack(x) for x in zip(*rows)]


def chained(seen, gaze, weights):
    with torch.no_grad():
        steps = Steps(seen, gaze, *plain(seen, gaze, weights))
    return differentiable(steps, Weights(*weights))


@given(st.integers(1, 5), st.integers(1, 4), st.tuples(*[st.integers(1, 5)] * 5), st.sampled_from([1, 4]), st.integers(0, 99))
def test_gradient_is_that_of_autograd(t, s, sizes, gates, seed):
    torch.manual_seed(seed)
    weights = sizes_to_weights(*sizes, gates)
    seen, gaze, pull = torch.randn(t, s, sizes[0], dtype=D), torch.rand(t, s, 2, dtype=D), torch.randn(t, s, sizes[-1], dtype=D)
    expected_hidden = plain(seen, gaze, weights)[HIDDEN]
    hidden = chained(seen, gaze, weights)
    assert torch.equal(hidden, expected_hidden)
    expected = torch.autograd.grad((expected_hidden * pull).sum(), weights)
    for name, found, wanted in zip(Weights._fields, torch.autograd.grad((hidden * pull).sum(), weights), expected):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("gates", [1, 4])
@pytest.mark.parametrize("t", [1, 3])
def test_gradient_is_that_of_finite_differences(t, gates):
    torch.manual_seed(0)
    seen, gaze = torch.randn(t, 2, 3, dtype=D), torch.rand(t, 2, 2, dtype=D)
    assert torch.autograd.gradcheck(lambda *weights: chained(seen, gaze, weights), sizes_to_weights(3, 3, 2, 4, 3, gates))


def test_a_gradient_at_the_last_step_only_reaches_back():
    """The usual case: an answer after the last glimpse."""
    torch.manual_seed(0)
    weights = sizes_to_weights(3, 4, 4, 6, 6)
    seen, gaze = torch.randn(4, 5, 3, dtype=D), torch.rand(4, 5, 2, dtype=D)
    found = torch.autograd.grad(chained(seen, gaze, weights)[-1].sum(), weights)
    expected = torch.autograd.grad(plain(seen, gaze, weights)[HIDDEN][-1].sum(), weights)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert found[-1].any(), "nothing went through the recurrent weights"


@pytest.mark.parametrize("gates", [1, 4])
def test_backward_twice_gives_the_same_gradient_twice(gates):
    """It must not write into what it saved, nor into the gradient it was handed."""
    torch.manual_seed(0)
    weights = sizes_to_weights(3, 4, 4, 6, 6, gates)
    hidden = chained(torch.randn(3, 5, 3, dtype=D), torch.rand(3, 5, 2, dtype=D), weights)
    before, pull = hidden.detach().clone(), torch.randn(3, 5, 6, dtype=D)
    handed = pull.clone()
    first = torch.autograd.grad(hidden, weights, handed, retain_graph=True)
    second = torch.autograd.grad(hidden, weights, handed)
    assert all(torch.equal(one, other) for one, other in zip(first, second))
    assert torch.equal(hidden, before) and torch.equal(handed, pull)


def test_what_was_seen_is_a_constant():
    torch.manual_seed(0)
    seen = torch.randn(2, 2, 3, dtype=D, requires_grad=True)
    weights = sizes_to_weights(3, 2, 2, 3, 3)
    chained(seen, torch.rand(2, 2, 2, dtype=D), weights).sum().backward()
    assert seen.grad is None
