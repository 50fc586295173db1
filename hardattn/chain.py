"""Back-propagation through a recurrent network, rectified or an LSTM, whose inputs were chosen along the way.

A hard agent must act step by step, for a look depends on the state; but what it saw is a constant to the gradient. So the forward pass
runs once without autograd, and the backward pass below walks back through the states only: every other product is taken over all steps
at once. It computes the gradient that autograd would (a test compares them), in one large product for all steps where autograd takes a small one for each.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hardattn.lstm_chain import LSTMBack


class Steps(NamedTuple):
    """What was seen and computed, time first; leading axes of rollouts and examples are flattened into s.

    a = relu([what; where]),  g = relu(W_join a),  h_t = relu(W_in g_t + W_rec h_{t-1}),  biases in all but W_rec. Of an LSTM, W_in and W_rec make
    the four gates, from which come the cell and h.
    """

    seen: Float[Tensor, "t s p"]
    gaze: Float[Tensor, "t s 2"]
    encoded: Float[Tensor, "t s a"]
    joined: Float[Tensor, "t s g"]
    hidden: Float[Tensor, "t s d"]
    gates: Float[Tensor, "t s q"]
    """Of an LSTM: input, forget, new cell, output, each of d, squashed. Otherwise of no width."""
    cell: Float[Tensor, "t s c"]
    """Of an LSTM, as wide as h. Otherwise of no width."""


class Weights(NamedTuple):
    """The parameters in the order of the forward pass."""

    what: Tensor
    what_bias: Tensor
    where: Tensor
    where_bias: Tensor
    join: Tensor
    join_bias: Tensor
    input: Tensor
    input_bias: Tensor
    recurrent: Tensor


def _through_relu(grad: Tensor, output: Tensor) -> Tensor:
    """Autograd's own kernel: several times faster on a CPU than a product with a mask. It overwrites `grad`, which spares the cache a third tensor."""
    return torch.ops.aten.threshold_backward.grad_input(grad, output, 0, grad_input=grad)


def _through_rectified(grad: Tensor, steps: Steps, recurrent: Tensor) -> Tensor:
    """From the gradient in the hidden states to that in what was added up for them."""
    delta = torch.ops.aten.threshold_backward(grad, steps.hidden, 0)
    each = delta.unbind()
    for t in range(len(each) - 2, -1, -1):
        each[t].add_(_through_relu(each[t + 1] @ recurrent, steps.hidden[t]))
    return delta


def _through_lstm(grad: Tensor, steps: Steps, recurrent: Tensor) -> Tensor:
    """The same through the gates of an LSTM."""
    cells = torch.cat([torch.zeros_like(steps.cell[:1]), steps.cell])
    return LSTMBack(steps.gates, cells, steps.cell.tanh()).walk(grad, recurrent)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, steps: Steps, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(*steps, *weights)
        return steps.hidden.view_as(steps.hidden)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        count = len(Steps._fields)
        steps, w = Steps(*ctx.saved_tensors[:count]), Weights(*ctx.saved_tensors[count:])
        delta = (_through_lstm if steps.gates.shape[-1] else _through_rectified)(grad, steps, w.recurrent)
        seen, gaze, encoded, joined = (x.flatten(0, 1) for x in steps[:4])
        d_core = delta.flatten(0, 1)
        d_joined = _through_relu(d_core @ w.input, joined)
        d_encoded = _through_relu(d_joined @ w.join, encoded)
        d_what, d_where = d_encoded[:, : len(w.what)], d_encoded[:, len(w.what) :]
        d_recurrent = delta[1:].flatten(0, 1).T @ steps.hidden[:-1].flatten(0, 1)
        return (
            None,
            *(d_what.T @ seen, d_what.sum(0)),
            *(d_where.T @ gaze, d_where.sum(0)),
            *(d_joined.T @ encoded, d_joined.sum(0)),
            *(d_core.T @ joined, d_core.sum(0)),
            d_recurrent,
        )


def differentiable(steps: Steps, weights: Weights) -> Float[Tensor, "t s d"]:
    """The hidden states of `steps`, with the gradient that they have in `weights`. What was seen, and where, are constants."""
    return _Chain.apply(steps, *weights)
