"""An LSTM step by step, and the way back through its gates by hand: what `hardattn.chain`, `hardattn.memory_chain` and `hardattn.tape_chain` have in common.

Gates are in the order of PyTorch: input, forget, new cell, output.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


class LSTMBack:
    """From the gradient in an LSTM's outputs to that in what was added up for its gates, step by step, the last step first.

    What does not depend on the step after it is computed for all steps at once.

    Args:
        gates: input, forget, new cell and output, squashed.
        cells: before the first step, and after every one.
        squashed: tanh of the cells after every step.
    """

    def __init__(
        self, gates: Float[Tensor, "t b g"], cells: Float[Tensor, "states b d"], squashed: Float[Tensor, "t b d"]
    ) -> None:
        i, f, new, o = gates.chunk(4, -1)
        sigmoid, tanh = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
        # What the gates make of the gradient in the cell (the output gate: of that in the output), and the cell of that in the output.
        slopes = torch.stack([sigmoid(new, i), sigmoid(cells[:-1], f), tanh(i, new), sigmoid(squashed, o)], 2)
        self._slopes, self._slopes_o, self._through = slopes.unbind(), slopes[:, :, 3].unbind(), tanh(o, squashed).unbind()
        self._forget = f.unbind()
        each = torch.empty_like(slopes)
        self._each, self._each_o = each.unbind(), each[:, :, 3].unbind()
        self.d_sums: Float[Tensor, "t b g"] = each.flatten(2)
        """In what was added up; filled step by step."""
        self.d_cell: Float[Tensor, "b d"] = torch.zeros_like(cells[0])
        """In the cell before the last step taken."""

    def step(self, t: int, d_output: Float[Tensor, "b d"]) -> None:
        """Take step t: `d_sums[t]` is then known."""
        self.d_cell.addcmul_(d_output, self._through[t])
        torch.mul(self._slopes[t], self.d_cell[:, None], out=self._each[t])
        torch.mul(self._slopes_o[t], d_output, out=self._each_o[t])
        self.d_cell.mul_(self._forget[t])

    def walk(self, d_outputs: Float[Tensor, "t b d"], recurrent: Float[Tensor, "g d"]) -> Float[Tensor, "t b g"]:
        """Take all steps of an LSTM whose outputs go back into it alone, with weight `recurrent`. Returns `d_sums`."""
        each, last = self.d_sums.unbind(), len(d_outputs) - 1
        for t in range(last, -1, -1):
            self.step(t, d_outputs[t] if t == last else torch.addmm(d_outputs[t], each[t + 1], recurrent))
        return self.d_sums


class LSTM:
    """A layer of an LSTM in tensors that hold all steps.

    Args:
        gates: [t, b, 4 d]; before step t is taken, place t holds what is added up for the gates, and afterwards the gates.
        outputs: [t, b, d], to be filled; a part of something larger, perhaps.
        c: [b, d], the cell before the first step.
    """

    def __init__(self, gates: Tensor, outputs: Tensor, c: Tensor) -> None:
        steps, _, d = outputs.shape
        cells, squashed = c.new_empty(steps + 1, *c.shape), c.new_empty(steps, *c.shape)
        cells[0] = c
        self.all = gates, cells, squashed
        # Views of all steps at once: one by one they would cost as much as what is done with them.
        self.gates, self.outputs, self.cells, self.squashed = (x.unbind() for x in (gates, outputs, cells, squashed))
        self.i, self.f, self.new, self.o = (x.unbind() for x in gates.split(d, -1))
        self.first = gates[..., : 2 * d].unbind()

    def step(self, t: int) -> None:
        """From what was added up to the output."""
        self.first[t].sigmoid_()
        self.new[t].tanh_()
        self.o[t].sigmoid_()
        torch.mul(self.f[t], self.cells[t], out=self.cells[t + 1]).addcmul_(self.i[t], self.new[t])
        torch.tanh(self.cells[t + 1], out=self.squashed[t])
        torch.mul(self.o[t], self.squashed[t], out=self.outputs[t])

    def turn_round(self) -> Float[Tensor, "t b g"]:
        """Before the way back: where the gradient in what was added up will be."""
        self.back = LSTMBack(*self.all)
        self.d_cell = self.back.d_cell
        return self.back.d_sums

    def step_back(self, t: int, d_output: Tensor) -> None:
        """From the gradient in the output to that in what was added up. `d_cell` is then that in the cell before the step."""
        self.back.step(t, d_output)


class _Outputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sums: Tensor, recurrent: Tensor) -> Tensor:
        steps, count, d = *sums.shape[:2], recurrent.shape[1]
        gates, states = sums.clone(), sums.new_zeros(steps + 1, count, d)
        layer, weight = LSTM(gates, states[1:], states[0]), recurrent.t()
        for t, (each, before) in enumerate(zip(layer.gates, states.unbind())):
            each.addmm_(before, weight)
            layer.step(t)
        ctx.kept = layer, states  # neither inputs nor outputs
        ctx.save_for_backward(recurrent)
        return states[1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, d_outputs: Tensor) -> tuple[Tensor, Tensor]:
        (layer, states), (recurrent,) = ctx.kept, ctx.saved_tensors
        d_sums = LSTMBack(*layer.all).walk(d_outputs, recurrent)
        return d_sums, d_sums.flatten(0, 1).t() @ states[:-1].flatten(0, 1)


def outputs(sums: Float[Tensor, "t b g"], recurrent: Float[Tensor, "g d"]) -> Float[Tensor, "t b d"]:
    """Of an LSTM that begins with zeros, at every step.

    Args:
        sums: what is added up for its gates, biases included, but for what comes from its own last output.
        recurrent: the weight of that.
    """
    return _Outputs.apply(sums, recurrent)
