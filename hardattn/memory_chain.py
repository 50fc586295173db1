"""Back-propagation through a controller whose heads read and write a memory, by hand: the soft machine of `agents.ntm` on a CPU.

Step by step, autograd records some forty small operations and takes as many back, each of which costs more than its arithmetic. Here the forward
pass fills tensors that hold all steps, without autograd. The backward pass walks back through what depends on the step after it alone: whatever else
the gates and the weights need is one product over all steps. It computes the gradient that autograd would (a test compares them).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from hardattn import compiled_heads as compiled
from hardattn.arrays import arrays


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
        start: the state before the first step. The memory gets no gradient.
        said: weight and bias of what the controller says to its heads (see `hardattn.heads`).
        core: weight and bias of every layer. A layer is given what comes from below (the lowest: the reads of the step before) and, of an LSTM,
            its own last output after that. Of an LSTM it makes the gates: input, forget, output, new cell.

    Returns:
        The controller's output, what was read, and the weightings of all heads; the last without a gradient.
    """
    flat = [x for weight, bias in core for x in (weight, weight.new_zeros(len(weight)) if bias is None else bias)]
    return _AllSteps.apply(torch.is_grad_enabled(), given, *start, *said, *flat)


class _Kept(NamedTuple):
    """What the way back needs, time first. What changes from step to step has one place more: before the first step, and after every one. Lists have an
    entry for every layer."""

    said: Tensor
    memory: Tensor
    """If there is no way back, of two steps in turns."""
    weights: Tensor
    cosine: Tensor
    near: Tensor
    blurred: Tensor
    reads: Tensor
    x: list[Tensor]
    """What a layer is given; in the place after the last step what that step leaves behind."""
    made: list[Tensor]
    """Of an LSTM: its gates, squashed. Otherwise its output."""
    cells: list[Tensor]
    squashed: list[Tensor]
    """tanh of the cells after a step."""


class _AllSteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, way_back: bool, given, memory, weights, reads, h, c, said_weight, said_bias, *core):
        kept = _places(given, State(memory, weights, reads, h, c), len(said_bias), core[::2], way_back)
        hidden = _walk(given, kept, said_weight, said_bias, core)
        weights = kept.weights[1:].clone()
        ctx.mark_non_differentiable(weights)
        if way_back:
            ctx.kept = kept  # neither inputs nor outputs
            ctx.save_for_backward(said_weight, *core[::2])
        return hidden.clone(), kept.reads[1:].clone(), weights

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hidden, d_reads, _):
        return None, *_walk_back(ctx.kept, d_hidden, d_reads, *ctx.saved_tensors)


def _places(given: Tensor, start: State, numbers: int, core: Sequence[Tensor], way_back: bool) -> _Kept:
    """Places for everything, with the start in them."""
    steps, batch, width = given.shape
    d, heads = start.c.shape[-1], start.weights.shape
    kept = _Kept(
        said=given.new_empty(steps, batch, numbers),
        memory=given.new_empty(steps + 1 if way_back else 2, *start.memory.shape),
        weights=given.new_empty(steps + 1, *heads),
        cosine=given.new_empty(steps, *heads),
        near=given.new_empty(steps, *heads),
        blurred=given.new_empty(steps, *heads),
        reads=given.new_empty(steps + 1, *start.reads.shape),
        x=[given.new_empty(steps + 1, batch, layer.shape[1]) for layer in core],
        made=[given.new_empty(steps, batch, width) for _ in core],
        cells=[given.new_empty(steps + 1, batch, d) for _ in core],
        squashed=[given.new_empty(steps, batch, d) for _ in core],
    )
    kept.memory[0], kept.weights[0], kept.reads[0] = start.memory, start.weights, start.reads
    kept.x[0][0, :, : start.reads.shape[1]] = start.reads
    for x, cells, h, c in zip(kept.x, kept.cells, start.h, start.c):
        x[0, :, x.shape[-1] - d :], cells[0] = h, c
    return kept


def _walk(given: Tensor, kept: _Kept, said_weight: Tensor, said_bias: Tensor, core: Sequence[Tensor]) -> Tensor:
    """Fill what is kept, step by step; returns the controller's output."""
    steps, r, d = len(given), kept.reads.shape[-1], said_weight.shape[1]
    lstm, top = bool(kept.cells[0].shape[-1]), len(kept.x) - 1
    hidden = kept.x[top][1:, :, -d:] if lstm else kept.made[top]
    # Views of all steps at once: one by one they would cost as much as what is done with them. Lists: first the layer, then the step.
    inputs = [x.unbind() for x in kept.x]
    made, cells, squashed = ([x.unbind() for x in xs] for xs in (kept.made, kept.cells, kept.squashed))
    outputs = [x[1:, :, -d:].unbind() for x in kept.x] if lstm else made
    gates = [x.unflatten(-1, (4, d)).unbind(2) for x in kept.made] if lstm else []
    i, f, o, new = ([[x.unbind() for x in each] for each in zip(*gates)]) if lstm else ([], [], [], [])
    squash = [x[..., : 3 * d].unbind() for x in kept.made] if lstm else []
    upper = [x[..., :d].unbind() for x in kept.x[1:]]
    back = kept.x[0][..., :r].unbind()
    weights, said, hiddens, givens = [w.t() for w in core[::2]], kept.said.unbind(), hidden.unbind(), given.unbind()
    heads = tuple(arrays(kept.said, kept.memory, kept.cosine, kept.near, kept.blurred, kept.weights, kept.reads))
    said_t = said_weight.t()
    for t in range(steps):
        for k, weight in enumerate(weights):
            torch.addmm(core[2 * k + 1] if k else givens[t], inputs[k][t], weight, out=made[k][t])
            if lstm:
                squash[k][t].sigmoid_()
                new[k][t].tanh_()
                torch.mul(f[k][t], cells[k][t], out=cells[k][t + 1]).addcmul_(i[k][t], new[k][t])
                torch.tanh(cells[k][t + 1], out=squashed[k][t])
                torch.mul(o[k][t], squashed[k][t], out=outputs[k][t])
            else:
                made[k][t].tanh_()
            if k < top:
                upper[k][t].copy_(outputs[k][t])
        torch.addmm(said_bias, hiddens[t], said_t, out=said[t])
        compiled.step(t, *heads)
        back[t + 1].copy_(kept.reads[t + 1])
    return hidden


def _walk_back(kept: _Kept, d_hidden: Tensor, d_reads: Tensor, said_weight: Tensor, *core: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients in what `_AllSteps` was given."""
    steps, d = len(d_hidden), d_hidden.shape[-1]
    r, top, lstm = kept.reads.shape[-1], len(core) - 1, bool(kept.cells[0].shape[-1])
    d_said, d_made = torch.zeros_like(kept.said), [torch.empty_like(x) for x in kept.made]
    d_x = [x.new_empty(x.shape[1:]) for x in kept.x]
    d_cell = [x.new_zeros(x.shape[1:]) for x in kept.cells]
    d_memory, d_weights = torch.zeros_like(kept.memory[:2]), torch.zeros_like(kept.weights[:2])
    d_read = d_reads.contiguous().clone()
    heads = tuple(arrays(kept.said, kept.memory, kept.cosine, kept.near, kept.blurred, kept.weights))
    grads = tuple(arrays(d_said, d_memory, d_weights, d_read))
    # How the gates answer to the gradient in the cell (of the output gate: in the output), and the cell to that in the output: nothing of it is from
    # the steps after.
    if lstm:
        slopes, throughs = zip(*(_slopes(*each) for each in zip(kept.made, kept.cells, kept.squashed)))
        slope, through = [x.unbind() for x in slopes], [x.unbind() for x in throughs]
        gates = [x.unflatten(-1, (4, d)) for x in d_made]
        d_gates, d_output = [x.unbind() for x in gates], [x[:, :, 2].unbind() for x in gates]
        forget = [x[..., d : 2 * d].unbind() for x in kept.made]
        slope_output = [x[:, :, 2].unbind() for x in slopes]
    each_made, made = [x.unbind() for x in d_made], [x.unbind() for x in kept.made]
    each_said, each_read, each_hidden = d_said.unbind(), d_read.unbind(), d_hidden.unbind()
    for t in range(steps - 1, -1, -1):
        last = t == steps - 1
        if not last:
            each_read[t].add_(d_x[0][:, :r])
        compiled.step_back(t, *heads, *grads)
        d_above = torch.addmm(each_hidden[t], each_said[t], said_weight)
        for k in range(top, -1, -1):
            if lstm:
                d_out = d_above if last else d_above.add_(d_x[k][:, -d:])
                d_cell[k].addcmul_(d_out, through[k][t])
                torch.mul(slope[k][t], d_cell[k][:, None], out=d_gates[k][t])
                torch.mul(slope_output[k][t], d_out, out=d_output[k][t])
                d_cell[k].mul_(forget[k][t])
            else:
                torch.ops.aten.tanh_backward.grad_input(d_above, made[k][t], grad_input=each_made[k][t])
            torch.mm(each_made[k][t], core[k], out=d_x[k])
            d_above = d_x[k][:, :d].clone() if k else d_above
    hidden = kept.x[top][1:, :, -d:] if lstm else kept.made[top]
    flat = [x.flatten(0, 1) for x in d_made]
    d_core = [x for k, g in enumerate(flat) for x in (g.t() @ kept.x[k][:-1].flatten(0, 1), g.sum(0) if k else None)]
    d_h = torch.stack([x[:, x.shape[1] - d :] if lstm else x[:, :0] for x in d_x])
    return (
        *(d_made[0], None, d_weights[1], d_x[0][:, :r], d_h, torch.stack(d_cell)),
        *(d_said.flatten(0, 1).t() @ hidden.flatten(0, 1), d_said.sum((0, 1))),
        *d_core,
    )


def _slopes(gates: Tensor, cells: Tensor, squashed: Tensor) -> tuple[Tensor, Tensor]:
    """Of an LSTM's layer: of all gates [t, b, 4, d], and of the cell."""
    i, f, o, new = gates.chunk(4, -1)
    sigmoid, tanh = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
    slopes = torch.stack([sigmoid(new, i), sigmoid(cells[:-1], f), sigmoid(squashed, o), tanh(i, new)], 2)
    return slopes, tanh(o, squashed)
