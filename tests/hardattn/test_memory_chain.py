"""The hand-written walk through all steps of a controller with a memory must be what one would write step by step, and its gradient autograd's."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardattn.heads import numbers, turn, use
from hardattn.memory_chain import State, all_steps

D = torch.float64
WIDTH, ROWS = 4, 6


def parameters(batch, steps, heads, layers, d, lstm, dtype=D):
    """Everything that may have a gradient, by name."""
    gates, r, said = 4 if lstm else 1, heads * WIDTH, numbers(heads, WIDTH, 1)
    back = d if lstm else 0
    shapes = {"given": (steps, batch, gates * d), "reads": (batch, r), "said": (said, d), "said bias": (said,)}
    shapes |= {"weights": (2 * heads, batch, ROWS), "h": (layers, batch, back), "c": (layers, batch, back)}
    shapes["memory"] = (batch, WIDTH, ROWS)
    for layer in range(layers):
        shapes[f"core {layer}"] = (gates * d, (d if layer else r) + back)
        shapes |= {f"bias {layer}": (gates * d,)} if layer else {}
    return {name: torch.randn(shape, dtype=dtype).requires_grad_() for name, shape in shapes.items()}


def unpacked(p):
    """The arguments of `all_steps`."""
    layers = [(p[f"core {i}"], p.get(f"bias {i}")) for i in range(len(p["h"]))]
    start = State(p["memory"], p["weights"].softmax(-1), p["reads"], p["h"], p["c"])
    return p["given"], start, (p["said"], p["said bias"]), layers


def plain(p):
    """Step by step, with autograd."""
    given, (memory, w, reads, h, c), (said_weight, said_bias), core = unpacked(p)
    h, c, rows = list(h), list(c), []
    for now in given:
        below = reads
        for k, (weight, bias) in enumerate(core):
            made = (now if k == 0 else bias) + torch.cat([below, h[k]], -1) @ weight.T
            if h[k].shape[-1]:
                i, f, new, o = made.chunk(4, -1)
                c[k] = f.sigmoid() * c[k] + i.sigmoid() * new.tanh()
                below = h[k] = o.sigmoid() * c[k].tanh()
            else:
                below = made.tanh()
        said = below @ said_weight.T + said_bias
        w = turn(said, memory, w)
        reads, memory = use(said, memory, w)
        rows.append((below, reads, w))
    return tuple(torch.stack(x) for x in zip(*rows))


@settings(deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 99),
)
def test_values_and_gradients_are_those_of_autograd(batch, steps, heads, layers, d, lstm, seed):
    torch.manual_seed(seed)
    p = parameters(batch, steps, heads, layers, d, lstm)
    expected, found = plain(p), all_steps(*unpacked(p))
    with torch.no_grad():
        unrecorded = all_steps(*unpacked(p))
    for one, other, third in zip(found, expected, unrecorded):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
        assert torch.equal(one, third) and not third.requires_grad
    assert found[0].requires_grad and found[1].requires_grad and not found[2].requires_grad
    pulls = [torch.randn_like(x) for x in found[:2]]
    one, other = (
        torch.autograd.grad(sum((x * pull).sum() for x, pull in zip(made, pulls)), list(p.values()), materialize_grads=True)
        for made in (found, expected)
    )
    for name, x, y in zip(p, one, other):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


def test_the_output_alone_may_be_used():
    """What was read then has no gradient of its own, but still one through the steps after."""
    torch.manual_seed(0)
    p = parameters(2, 3, 1, 1, 3, True)
    one, other = (torch.autograd.grad(made[0][-1].sum(), p["reads"])[0] for made in (all_steps(*unpacked(p)), plain(p)))
    assert one.any()
    torch.testing.assert_close(one, other)


def test_in_32_bits():
    torch.manual_seed(0)
    p = parameters(2, 5, 2, 2, 4, True, dtype=torch.float32)
    for one, other in zip(all_steps(*unpacked(p)), plain(p)):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other)
