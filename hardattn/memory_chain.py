"""Back-propagation through a controller whose heads read and write a memory, by hand: the soft machine of `agents.ntm` on a CPU.

Step by step, autograd records some forty small operations and takes as many back, each of which costs more than its arithmetic. Here the forward
pass fills tensors that hold all steps, without autograd. The backward pass walks back through what depends on the step after it alone: whatever else
the gates and the weights need is one product over all steps. It computes the gradient that autograd would (a test compares them).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from hardattn import compiled_heads as compiled
from hardattn.arrays import arrays
from hardattn.lstm_chain import LSTM


class State(NamedTuple):
    """All that such a machine knows between two steps. Heads of `weights`: those that read, then those that write."""

    memory: Float[Tensor, "b m n"]
    weights: Float[Tensor, "heads b n"]
    reads: Float[Tensor, "b r"]
    """What the heads read, one after the other."""
    h: Float[Tensor, "layers b d"]
    c: Float[Tensor, "layers b d"]
    """Of an LSTM, as wide as h. A feed-forward controller has neither: they have no width."""


def all_steps(
    given: Float[Tensor, "t b g"],
    start: State,
    said: tuple[Tensor, Tensor],
    core: Sequence[tuple[Tensor, Tensor | None]],
) -> tuple[Float[Tensor, "t b d"], Float[Tensor, "t b r"], Float[Tensor, "t heads b n"]]:
    """Go through all steps, with every weighting as it is (soft).

    Args:
        given: the input, projected for the lowest layer, whose bias is in it.
        start: the state before the first step.
        said: weight and bias of what the controller says to its heads (see `hardattn.heads`).
        core: weight and bias of every layer. A layer is given what comes from below (the lowest: the reads of the step before) and, of an LSTM,
            its own last output after that. Of an LSTM it makes the gates: input, forget, new cell, output.

    Returns:
        The controller's output, what was read, and the weightings of all heads; the last without a gradient.
    """
    flat = [x for weight, bias in core for x in (weight, weight.new_zeros(len(weight)) if bias is None else bias)]
    return _AllSteps.apply(torch.is_grad_enabled(), given, *start, *said, *flat)


class _Squashed:
    """A feed-forward layer, with the same methods; what it makes at every step is what it puts out."""

    def __init__(self, made: Tensor) -> None:
        self.made, self.gates = made, made.unbind()
        self.outputs, self.d_cell = self.gates, made[0, :, :0]

    def step(self, t: int) -> None:
        self.gates[t].tanh_()

    def turn_round(self) -> Tensor:
        d_made = torch.empty_like(self.made)
        self.d_made = d_made.unbind()
        return d_made

    def step_back(self, t: int, d_output: Tensor) -> None:
        torch.ops.aten.tanh_backward.grad_input(d_output, self.gates[t], grad_input=self.d_made[t])


class _Heads:
    """The heads at all steps, and the memory, of which there are two in turns if there is no way back."""

    def __init__(self, numbers: int, steps: int, state: State, way_back: bool) -> None:
        new = state.memory.new_empty
        self.said, self.reads = new(steps, len(state.memory), numbers), new(steps + 1, *state.reads.shape)
        self.memory = new(steps + 1 if way_back else 2, *state.memory.shape)
        self.weights = new(steps + 1, *state.weights.shape)
        self.memory[0], self.weights[0], self.reads[0] = state.memory, state.weights, state.reads
        before_shift = (new(steps, *state.weights.shape) for _ in range(3))
        self.kept = tuple(arrays(self.said, self.memory, *before_shift, self.weights))
        self.read = tuple(arrays(self.reads))

    def step(self, t: int) -> None:
        compiled.step(t, *self.kept, *self.read)

    def turn_round(self, d_reads: Tensor) -> None:
        """Before the way back; `d_reads` may be added to as long as its step has not been walked."""
        self.d_said, self.d_reads = torch.zeros_like(self.said), d_reads
        self.d_memory, self.d_weights = torch.zeros_like(self.memory[:2]), torch.zeros_like(self.weights[:2])
        self.grads = tuple(arrays(self.d_said, self.d_memory, self.d_weights, d_reads))

    def step_back(self, t: int) -> None:
        compiled.step_back(t, *self.kept, *self.grads)


class _AllSteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, way_back: bool, given, memory, weights, reads, h, c, said_weight, said_bias, *core):
        heads = _Heads(len(said_bias), len(given), State(memory, weights, reads, h, c), way_back)
        steps, d, r = len(given), said_weight.shape[1], reads.shape[1]
        # What every layer is given; one step more than there are, for what the last one leaves behind.
        inputs = [given.new_empty(steps + 1, len(reads), weight.shape[1]) for weight in core[::2]]
        inputs[0][0, :, :r] = reads
        layers: list[Any] = []
        for x, first_h, first_c in zip(inputs, h, c):
            made = torch.empty_like(given)
            x[0, :, x.shape[-1] - c.shape[-1] :] = first_h
            layers.append(LSTM(made, x[1:, :, -d:], first_c) if c.shape[-1] else _Squashed(made))
        hidden = inputs[-1][1:, :, -d:] if c.shape[-1] else layers[-1].made
        _walk(given, inputs, layers, heads, said_weight, said_bias, core)
        if way_back:
            ctx.kept = inputs, layers, heads, hidden  # neither inputs nor outputs
            ctx.save_for_backward(said_weight, *core[::2])
        read, weights = heads.reads[1:].clone(), heads.weights[1:].clone()
        ctx.mark_non_differentiable(weights)
        return hidden.clone(), read, weights

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hidden, d_reads, _):
        inputs, layers, heads, hidden = ctx.kept
        said_weight, *weights = ctx.saved_tensors
        d_made, d_inputs = _walk_back(d_hidden, d_reads, layers, heads, said_weight, weights)
        d_core = []
        for k, (x, d_layer) in enumerate(zip(inputs, d_made)):
            flat = d_layer.flatten(0, 1)
            d_core += [flat.t() @ x[:-1].flatten(0, 1), flat.sum(0) if k else None]
        width, r = layers[0].d_cell.shape[-1], d_reads.shape[-1]
        return (
            *(None, d_made[0], heads.d_memory[1], heads.d_weights[1], d_inputs[0][:, :r]),
            torch.stack([x[:, x.shape[-1] - width :] for x in d_inputs]),
            torch.stack([layer.d_cell for layer in layers]),
            *(heads.d_said.flatten(0, 1).t() @ hidden.flatten(0, 1), heads.d_said.sum((0, 1))),
            *d_core,
        )


def _walk(
    given: Tensor,
    inputs: Sequence[Tensor],
    layers: Sequence[Any],
    heads: _Heads,
    said_weight: Tensor,
    said_bias: Tensor,
    core: Sequence[Tensor],
) -> None:
    """Every step: the layers from the lowest on, what they say to the heads, and what these read for the next step."""
    r, d = heads.reads.shape[-1], said_weight.shape[1]
    added, said, reads, said_t = given.unbind(), heads.said.unbind(), heads.reads.unbind(), said_weight.t()
    given_to, back = [x.unbind() for x in inputs], inputs[0][..., :r].unbind()
    above = [x[..., :d].unbind() for x in inputs[1:]]
    weights, biases = [weight.t() for weight in core[::2]], core[1::2]
    for t in range(len(given)):
        for k, layer in enumerate(layers):
            torch.addmm(biases[k] if k else added[t], given_to[k][t], weights[k], out=layer.gates[t])
            layer.step(t)
            if k < len(above):
                above[k][t].copy_(layer.outputs[t])
        torch.addmm(said_bias, layers[-1].outputs[t], said_t, out=said[t])
        heads.step(t)
        back[t + 1].copy_(reads[t + 1])


def _walk_back(
    d_hidden: Tensor, d_reads: Tensor, layers: Sequence[Any], heads: _Heads, said_weight: Tensor, weights: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients in what was added up in every layer at all steps, and in what it was given at the first."""
    steps, r, d = len(d_hidden), d_reads.shape[-1], said_weight.shape[1]
    heads.turn_round(d_reads.contiguous().clone())
    d_made = [layer.turn_round() for layer in layers]
    d_inputs = [weight.new_zeros(d_hidden.shape[1], weight.shape[1]) for weight in weights]
    recurrent = layers[0].d_cell.shape[-1] > 0
    added, said, reads, hidden = [x.unbind() for x in d_made], heads.d_said.unbind(), heads.d_reads.unbind(), d_hidden.unbind()
    for t in range(steps - 1, -1, -1):
        # Until a layer's turn comes, `d_inputs` has its gradient of the step after.
        reads[t].add_(d_inputs[0][:, :r])
        heads.step_back(t)
        d_output = torch.addmm(hidden[t], said[t], said_weight)
        for k in range(len(layers) - 1, -1, -1):
            if recurrent:
                d_output.add_(d_inputs[k][:, -d:])
            layers[k].step_back(t, d_output)
            torch.mm(added[k][t], weights[k], out=d_inputs[k])
            d_output = d_inputs[k][:, :d].clone() if k else d_output
    return d_made, d_inputs
